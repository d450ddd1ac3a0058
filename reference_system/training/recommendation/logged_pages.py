"""Logged pages beside the pages that a ranker would have made for the same viewers at the same moments.

In: the lake, a window, the ranker's tables, the point-in-time join; then scores. Out: what `off_policy.py`
weighs.
Invariant: only pages on which any video could stand are used, with the probabilities that were logged with them, and
the ranker knows nothing that came after a page's moment.

The model of the watches that the doubly robust estimate needs is the ranker itself: its score for each place of the
page, on the average, for it is told the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Floats, Floats32, Ints
from reference_system.errors import TrainingError
from reference_system.training.evaluation.evaluation import Scorer
from reference_system.training.point_in_time import Join
from reference_system.training.recommendation import duckdb_events
from reference_system.training.recommendation.off_policy import LoggedMatches
from reference_system.training.recommendation.page_cases import PageCase, cases_at
from reference_system.training.recommendation.video_tables import Videos, VideoTables
from reference_system.training.temporal_split import Span
from reference_system.use_cases.recommendation.features import INPUTS
from reference_system.use_cases.recommendation.model import PAGE_LENGTH
from reference_system.use_cases.recommendation.policy import compose_page

_POSITION = INPUTS.index("position")


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoggedPage:
    """One page: its videos as indices into the catalogue, -1 for those that are not in it."""

    viewer: str
    time: int
    videos: list[int]
    propensities: list[float]
    labels: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedPages:
    """Pages that were drawn by chance, and the request of each as a ranker gets it."""

    pages: Sequence[_LoggedPage]
    cases: Sequence[PageCase]
    videos: Videos

    def beside(self, scorer: Scorer) -> LoggedMatches:
        """The same pages beside those of a ranker."""
        return _matches(self.pages, _pages(self.cases, self.videos, scorer))


def logged_pages(  # noqa: PLR0913 - where from, which, how many, and what is known then
    lake: Path, span: Span, videos: Videos, tables: VideoTables, join: Join, *, most: int, seed: int
) -> LoggedPages:
    """At most `most` pages of a window, drawn at random.

    Args:
        lake: the lake's folder.
        span: the window.
        videos: the catalogue at the end of the window; its first videos are those of the tables.
        tables: the ranker's, made before the window.
        join: the point-in-time join.
        most: how many pages to take.
        seed: of the draw.

    Raises:
        TrainingError: if no page was drawn by chance.
    """
    pages = _by_chance(duckdb_events.impressions(lake, span), videos)
    if not pages:
        raise TrainingError(f"no page was drawn by chance in the window from {span}", next_command="workbook status")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pages))[:most])
    logged = [pages[place] for place in chosen.tolist()]
    cases = cases_at(
        lake,
        span,
        videos,
        tables,
        join,
        viewers=[page.viewer for page in logged],
        times=[page.time for page in logged],
    )
    return LoggedPages(pages=logged, cases=cases, videos=videos)


def _by_chance(shown: pa.Table, videos: Videos) -> list[_LoggedPage]:
    """The pages, each place of a page being a row, the first in position 1."""
    shown = shown.filter(shown["drawn"])
    items = videos.indices(shown["video_id"]).tolist()
    starts = np.flatnonzero(pc.equal(shown["position"], 1.0).to_numpy())
    ends = [*starts[1:].tolist(), len(items)]
    viewers, times = shown["viewer_id"].to_pylist(), shown["time"].to_pylist()
    propensities, labels = shown["propensity"].to_pylist(), shown["label"].to_pylist()
    return [
        _LoggedPage(
            viewer=viewers[start],
            time=times[start],
            videos=items[start:end],
            propensities=propensities[start:end],
            labels=labels[start:end],
        )
        for start, end in zip(starts.tolist(), ends, strict=True)
    ]


def _pages(cases: Sequence[PageCase], videos: Videos, scorer: Scorer) -> list[dict[int, float]]:
    """The ranker's page of each case: each video with the share of its places on which it would be watched."""
    categories = videos.categories.tolist()
    scores = np.split(scorer(np.concatenate([case.inputs for case in cases])), _ends(cases))
    pages, rows = [], []
    for case, of_case in zip(cases, scores, strict=True):
        order = np.argsort(-of_case, kind="stable")
        page = compose_page(case.candidates[order].tolist(), categories, case.recent, k=PAGE_LENGTH)
        place = {int(item): row for row, item in enumerate(case.candidates)}
        pages.append(page)
        rows.append(case.inputs[[place[item] for item in page]])
    expected = iter(_over_positions(np.concatenate(rows), scorer).tolist())
    return [{item: next(expected) for item in page} for page in pages]


def _ends(cases: Sequence[PageCase]) -> Ints:
    ends: Ints = np.cumsum([len(case.candidates) for case in cases])[:-1]
    return ends


def _over_positions(rows: Floats32, scorer: Scorer) -> Floats:
    total = np.zeros(len(rows))
    for position in range(1, PAGE_LENGTH + 1):
        placed = rows.copy()
        placed[:, _POSITION] = position
        total += scorer(placed)
    return total / PAGE_LENGTH


def _matches(logged: Sequence[_LoggedPage], ranked: Sequence[dict[int, float]]) -> LoggedMatches:
    # Numbered as they came: an interval draws viewers by their numbers, and names are not to decide on it.
    number_of: dict[str, int] = {}
    viewers = np.array([number_of.setdefault(page.viewer, len(number_of)) for page in logged])
    places = [
        (number, propensity, label, theirs[video])
        for number, (page, theirs) in enumerate(zip(logged, ranked, strict=True))
        for video, propensity, label in zip(page.videos, page.propensities, page.labels, strict=True)
        if video in theirs
    ]
    found = np.array(places, np.float64).reshape(-1, 4)
    return LoggedMatches(
        viewers=viewers,
        lengths=np.array([len(page) for page in ranked], np.float64),
        predicted=np.array([sum(page.values()) for page in ranked]),
        watched=np.array([sum(page.labels) for page in logged]),
        page=found[:, 0].astype(np.int64),
        propensities=found[:, 1],
        labels=found[:, 2],
        expected=found[:, 3],
    )
