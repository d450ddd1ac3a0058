"""Page cases: viewers of the test window, the moment at which each first came, and what they watched from then on.

A case is a request as serving gets it: candidates from the two-stage recommender's tables as of the start of the
window, ranker inputs as of the viewer's moment. Its answer is judged by what the viewer watched in the window.

In: the lake, a split, the tables, the point-in-time join. Out: cases, with everything a ranker needs to answer them.
Invariant: nothing in a case's inputs happened after its moment.

What viewers can watch is what some policy showed them, so plain metrics favour policies like it. Each watch therefore
carries its weight, one over the probability with which its video was shown. Only pages on which any video could stand
can say this. On a model's own page most videos have no probability at all, also where one place is left to chance,
for it is drawn among what the model thought of; judging by such pages would reward whoever agrees with that model.
They are left out.
Source: Yang et al., Unbiased offline recommender evaluation for missing-not-at-random implicit feedback, RecSys 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from reference_system.arrays import Floats, Floats32, Ints
from reference_system.errors import TrainingError
from reference_system.event_time import micros, moment_of
from reference_system.training.point_in_time import Join, values_at
from reference_system.training.recommendation import duckdb_events
from reference_system.training.recommendation.video_tables import Videos, VideoTables
from reference_system.training.temporal_split import Span
from reference_system.use_cases.recommendation.features import (
    NEWEST_VIDEOS,
    SERVING_POSITION,
    VIDEO_POPULARITY,
    VIEWER_ACTIVITY,
    VIEWER_RECENT,
    ranker_inputs,
)
from reference_system.use_cases.recommendation.model import CANDIDATE_COUNT, generate_candidates

# Fewer viewers than this say nothing about a ranking.
MIN_CASES = 30
_RECENT_DAYS = 30
_WATCHES_7D = VIDEO_POPULARITY.features.index("video_watch_count_7d")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCase:
    """One viewer's request and what came of it; videos are indices into the catalogue.

    `inputs` has a row for each of `candidates`; `recent` is what the viewer had watched lately; `relevant` maps each
    video that was watched later to its weight.
    """

    viewer: str
    time: int
    candidates: Ints
    inputs: Floats32
    recent: frozenset[int]
    relevant: dict[int, float]


def page_cases(  # noqa: PLR0913 - where from, which, how many
    lake: Path, test: Span, videos: Videos, tables: VideoTables, join: Join, *, most: int, seed: int
) -> list[PageCase]:
    """At most `most` cases, drawn at random among the viewers of the test window who watched something.

    Args:
        lake: the lake's folder.
        test: the window.
        videos: the catalogue at the end of the window; its first videos are those of the tables.
        tables: as of the start of the window.
        join: the point-in-time join.
        most: how many cases to take.
        seed: of the draw.

    Raises:
        TrainingError: if too few of them did.
    """
    outcomes = _outcomes(lake, test, videos)
    if len(outcomes) < MIN_CASES:
        raise TrainingError(
            f"only {len(outcomes)} viewers watched something on pages drawn by chance in the test window from {test};"
            f" {MIN_CASES} are needed to judge a ranking",
            next_command="workbook status",
        )
    rng = np.random.default_rng(seed)
    chosen = [outcomes[i] for i in np.sort(rng.permutation(len(outcomes))[:most])]
    times = np.array([outcome.time for outcome in chosen])
    viewers = values_at(join, VIEWER_ACTIVITY, [outcome.viewer for outcome in chosen], times, test)
    grid = _popularity_grid(test, videos, join)
    return [_case(outcome, viewer, videos, tables, grid) for outcome, viewer in zip(chosen, viewers, strict=True)]


def cases_at(  # noqa: PLR0913 - who asks, when, and what is known then
    lake: Path,
    span: Span,
    videos: Videos,
    tables: VideoTables,
    join: Join,
    *,
    viewers: Sequence[str],
    times: Sequence[int],
) -> list[PageCase]:
    """The requests of these viewers at these moments of a window, with nothing to be judged by.

    Raises:
        TrainingError: if features of the window are missing.
    """
    watched = _watched(lake, span, videos)
    values = values_at(join, VIEWER_ACTIVITY, viewers, np.array(times, np.int64), span)
    grid = _popularity_grid(span, videos, join)
    asked = [
        _Outcome(viewer=viewer, time=time, recent=list(_recent(watched.get(viewer, []), time)), relevant={})
        for viewer, time in zip(viewers, times, strict=True)
    ]
    return [_case(each, value, videos, tables, grid) for each, value in zip(asked, values, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What a viewer had watched before the first page of the window, newest first, and watched afterwards."""

    viewer: str
    time: int
    recent: list[int]
    relevant: dict[int, float]


@dataclass(frozen=True, slots=True)
class _Grid:
    """The features of every video at every tile end; `values` has shape (tile ends, videos, features)."""

    first: int
    values: Floats

    def at(self, time: int) -> Floats:
        """What holds at a moment: the values of the last tile end."""
        held: Floats = self.values[(time - self.first) // VIDEO_POPULARITY.tile_micros]
        return held


def _outcomes(lake: Path, test: Span, videos: Videos) -> list[_Outcome]:
    shown = duckdb_events.impressions(lake, test)
    items = videos.indices(shown["video_id"])
    viewers = shown["viewer_id"].to_pylist()
    first: dict[str, int] = {}
    for viewer, time in zip(viewers, shown["time"].to_pylist(), strict=True):
        first.setdefault(viewer, time)
    recent = {
        viewer: list(_recent(seen, first[viewer]))
        for viewer, seen in _watched(lake, test, videos).items()
        if viewer in first
    }
    relevant: dict[str, dict[int, float]] = {}
    propensities = shown["propensity"].to_numpy()
    by_chance = shown["drawn"].to_numpy(zero_copy_only=False) & (propensities > 0.0)
    watched = by_chance & (shown["label"].to_numpy() > 0.0) & (items >= 0)
    for row in np.flatnonzero(watched).tolist():
        viewer = viewers[row]
        # The page's rules never repeat what was watched lately, so nobody can be judged by it.
        if items[row] not in recent.get(viewer, ()):
            relevant.setdefault(viewer, {}).setdefault(int(items[row]), float(1.0 / propensities[row]))
    return [
        _Outcome(viewer=viewer, time=first[viewer], recent=recent.get(viewer, []), relevant=videos)
        # In the order in which they came, not in that of their names: some of them are drawn by their places.
        for viewer, videos in sorted(relevant.items(), key=lambda one: (first[one[0]], sorted(one[1].items())))
    ]


def _watched(lake: Path, test: Span, videos: Videos) -> dict[str, list[tuple[int, int]]]:
    """For each viewer the watches up to the end of the window, oldest first: (time, video)."""
    table = duckdb_events.watched_videos(lake, Span(start=test.start - timedelta(days=_RECENT_DAYS), end=test.end))
    items = videos.indices(table["video_id"]).tolist()
    watched: dict[str, list[tuple[int, int]]] = {}
    for viewer, time, item in zip(table["viewer_id"].to_pylist(), table["time"].to_pylist(), items, strict=True):
        watched.setdefault(viewer, []).append((time, item))
    return watched


def _recent(watched: list[tuple[int, int]], moment: int) -> Iterator[int]:
    """The last distinct videos before a moment, newest first, as the online list of a viewer holds them."""
    newest = dict.fromkeys(item for time, item in reversed(watched) if time < moment)
    for item in list(newest)[: VIEWER_RECENT.length]:
        if item >= 0:
            yield item


def _popularity_grid(test: Span, videos: Videos, join: Join) -> _Grid:
    tile = VIDEO_POPULARITY.tile_micros
    first = micros(test.start) // tile * tile
    ends = np.arange(first, micros(test.end), tile)
    span = Span(start=moment_of(first), end=test.end)
    keys = pa.array(np.tile(videos.ids, len(ends)).tolist())
    values = values_at(join, VIDEO_POPULARITY, keys, np.repeat(ends, len(videos)), span)
    return _Grid(first, values.reshape(len(ends), len(videos), -1))


def _case(outcome: _Outcome, viewer: Floats, videos: Videos, tables: VideoTables, grid: _Grid) -> PageCase:
    known = int(np.searchsorted(videos.published, outcome.time, side="right"))
    newest = range(known - 1, max(known - 1 - NEWEST_VIDEOS.length, -1), -1)
    popularity = grid.at(outcome.time)
    popular = np.argsort(-popularity[:known, _WATCHES_7D], kind="stable")[:CANDIDATE_COUNT].tolist()
    sources = generate_candidates(outcome.recent, tables.neighbours, tables.vectors, popular, newest)
    candidates = np.fromiter(sources, np.int64, len(sources))
    count = len(candidates)
    inputs = ranker_inputs(
        viewer=np.broadcast_to(viewer, (count, len(viewer))),
        videos=popularity[candidates],
        categories=videos.categories[candidates],
        published=videos.published[candidates],
        durations=videos.durations[candidates],
        as_of=np.full(count, outcome.time),
        positions=np.full(count, SERVING_POSITION),
    )
    return PageCase(
        viewer=outcome.viewer,
        time=outcome.time,
        candidates=candidates,
        inputs=inputs.astype(np.float32),
        recent=frozenset(outcome.recent),
        relevant=outcome.relevant,
    )
