"""Evaluation of rankers by whole pages for the viewers of the test window.

Invariant: a slice is found by the model's own inputs, so it is the same for every model that is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from reference_system.arrays import Floats
from reference_system.metrics.ranking import Ordered
from reference_system.training.evaluation.evaluation import CALIBRATION_ERROR, Evaluation, Scorer, Slice
from reference_system.training.evaluation.reliability import expected_calibration_error
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.recommendation.page_cases import PageCase
from reference_system.use_cases.recommendation.events import CATEGORIES
from reference_system.use_cases.recommendation.features import INPUTS
from reference_system.use_cases.recommendation.model import (
    PAGE_LENGTH,
    gain_at,
    ndcg_at,
    recall_at,
    weight_at,
)
from reference_system.use_cases.recommendation.policy import compose_page

# Viewers with at least this many watches in thirty days.
MANY_WATCHES = 20
NEW_VIDEO_DAYS = 7.0

# Whether a video of a case belongs to a slice.
WantedPage = Callable[[PageCase, int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEvaluator:
    """Evaluates rankers by pages for the viewers of the test window.

    `ndcg@k` and `recall@k` weigh each watch by one over the probability with which its video was shown; their
    `_as_shown` versions do not, and so reward whoever shows what was shown before (see
    `training/recommendation/page_cases.py`).
    """

    rows: LabelledRows
    cases: Sequence[PageCase]
    categories: Sequence[int]

    @property
    def groups(self) -> int:
        """The number of viewers."""
        return len(self.cases)

    def evaluate(self, scorer: Scorer) -> Evaluation:
        """Ndcg and recall of whole pages, coverage of the catalogue, and ROC AUC on impressions."""
        k = PAGE_LENGTH
        pages = self.pages(scorer)
        relevant = [case.relevant for case in self.cases]
        gains = np.array([gain_at(p, r, k=k) for p, r in zip(pages, relevant, strict=True)])
        found = np.array([weight_at(p, r, k=k) for p, r in zip(pages, relevant, strict=True)])
        plain = [(page, set(videos)) for page, videos in zip(pages, relevant, strict=True)]
        scores = scorer(self.rows.inputs)
        primary = partial(_share_of, gains)
        return Evaluation(
            metrics={
                f"ndcg@{k}": primary(np.ones(len(gains))),
                f"recall@{k}": float(found[:, 0].sum() / found[:, 1].sum()),
                f"ndcg@{k}_as_shown": float(np.mean([ndcg_at(p, r, k=k) for p, r in plain])),
                f"recall@{k}_as_shown": float(np.mean([recall_at(p, r, k=k) for p, r in plain])),
                "coverage": len({video for page in pages for video in page}) / len(self.categories),
                "roc_auc": Ordered.by(scores, self.rows.labels).roc_auc(),
                CALIBRATION_ERROR: expected_calibration_error(scores, self.rows.labels),
            },
            scores=scores,
            primary=primary,
            slices=partial(self._slices, pages),
        )

    def _slices(self, pages: Sequence[Sequence[int]]) -> Mapping[str, Slice]:
        """Parts of the viewers, and parts of the videos: for the latter only what was watched of them counts."""
        slices = {}
        for name, wanted in page_slices(self.cases, self.categories).items():
            relevant = [{v: w for v, w in case.relevant.items() if wanted(case, v)} for case in self.cases]
            gains = np.array([gain_at(p, r, k=PAGE_LENGTH) for p, r in zip(pages, relevant, strict=True)])
            positives = sum(len(videos) for videos in relevant)
            slices[name] = Slice(worth=partial(_share_of, gains), positives=positives)
        return slices

    def pages(self, scorer: Scorer) -> list[list[int]]:
        """The page of each case, as serving would compose it."""
        scores = scorer(np.concatenate([case.inputs for case in self.cases]))
        ends = np.cumsum([len(case.candidates) for case in self.cases])
        pages = []
        for case, of_case in zip(self.cases, np.split(scores, ends[:-1]), strict=True):
            ranked = case.candidates[np.argsort(-of_case, kind="stable")].tolist()
            pages.append(compose_page(ranked, self.categories, case.recent, k=PAGE_LENGTH))
        return pages


def _share_of(gains: Floats, weights: Floats) -> float:
    """What was reached of what could be, shape (n, 2), with weights for the pages; NaN where nothing could be."""
    reached, possible = weights @ gains
    return float(reached / possible) if possible else float("nan")


def page_slices(cases: Sequence[PageCase], categories: Sequence[int]) -> Mapping[str, WantedPage]:
    """What counts of a page: everything for some viewers, or some videos for every viewer."""
    age = INPUTS.index("video_age_days")
    watched = INPUTS.index("viewer_watch_count_30d")
    new = {id(case): set(case.candidates[case.inputs[:, age] <= NEW_VIDEO_DAYS].tolist()) for case in cases}
    watches = {id(case): float(case.inputs[0, watched]) if len(case.inputs) else 0.0 for case in cases}
    by_category = {f"category {name}": _of_category(index, categories) for index, name in enumerate(CATEGORIES)}
    return {
        "new viewers": lambda case, _: watches[id(case)] <= 0.0,
        "active viewers": lambda case, _: watches[id(case)] >= MANY_WATCHES,
        "newest videos": lambda case, video: video in new[id(case)],
        **by_category,
    }


def _of_category(index: int, categories: Sequence[int]) -> WantedPage:
    return lambda _, video: categories[video] == index
