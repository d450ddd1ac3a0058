"""Judges: what a ranking is worth on the test window.

In: a scorer, which is anything that gives each input row a number: a fitted model, a champion's bundle, one input.
Out: its metrics, and the primary one again under other weights of the cards or viewers, for a bootstrap.
Invariant: every scorer answers the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Floats32
from reference_system.event_time import MICROS_PER_DAY
from reference_system.training.evaluation.ranking_metrics import Ordered
from reference_system.training.evaluation.reliability import expected_calibration_error
from reference_system.training.evaluation.slices import page_slices, payment_slices
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.recommendation.page_cases import PageCase
from reference_system.use_cases.fraud import model as fraud
from reference_system.use_cases.recommendation import model as recommendation
from reference_system.use_cases.recommendation.policy import compose_page

Scorer = Callable[[Floats32], Floats]
WeightedWorth = Callable[[Floats], float]
CALIBRATION_ERROR = "expected_calibration_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of the rows or pages: the primary metric there, and how many positives say so."""

    worth: WeightedWorth
    positives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one scorer is worth.

    `scores` are those of the test rows. `primary` gives the primary metric when the groups (cards, viewers) count
    with these weights, shape (groups,). `slices` gives the same for parts of the rows, by name; it is worked out when
    it is asked for.
    """

    metrics: dict[str, float]
    scores: Floats
    primary: WeightedWorth
    slices: Callable[[], Mapping[str, Slice]]


class Evaluator(Protocol):
    """Something that can tell what a scorer is worth."""

    @property
    def rows(self) -> LabelledRows:
        """The test rows."""
        ...

    @property
    def groups(self) -> int:
        """How many cards or viewers there are."""
        ...

    def evaluate(self, scorer: Scorer) -> Evaluation:
        """Let the scorer answer everything, and judge the answers."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEvaluator:
    """Judges fraud scores by the payments of the test window."""

    rows: LabelledRows

    @property
    def groups(self) -> int:
        """The number of cards."""
        return int(self.rows.groups.max()) + 1

    def evaluate(self, scorer: Scorer) -> Evaluation:
        """Average precision, ROC AUC and card precision@k."""
        scores = scorer(self.rows.inputs)
        ordered = Ordered.by(scores, self.rows.labels)
        days = self.rows.times // MICROS_PER_DAY
        k = fraud.checked_cards(self.groups)
        return Evaluation(
            metrics={
                "average_precision": ordered.average_precision(),
                "roc_auc": ordered.roc_auc(),
                f"card_precision@{k}": fraud.card_precision_at(scores, self.rows.labels, self.rows.groups, days, k=k),
                CALIBRATION_ERROR: expected_calibration_error(scores, self.rows.labels),
            },
            scores=scores,
            primary=lambda weights: ordered.average_precision(weights[self.rows.groups]),
            slices=partial(self._slices, scores),
        )

    def _slices(self, scores: Floats) -> Mapping[str, Slice]:
        def of(rows: NDArray[np.bool_]) -> Slice:
            ordered, groups = Ordered.by(scores[rows], self.rows.labels[rows]), self.rows.groups[rows]
            return Slice(
                worth=lambda weights: ordered.average_precision(weights[groups]),
                positives=int(self.rows.labels[rows].sum()),
            )

        return {name: of(rows) for name, rows in payment_slices(self.rows.inputs).items() if rows.any()}


@dataclass(frozen=True, slots=True, kw_only=True)
class PageEvaluator:
    """Judges rankers by pages for the viewers of the test window.

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
        k = recommendation.PAGE_LENGTH
        pages = self.pages(scorer)
        relevant = [case.relevant for case in self.cases]
        gains = np.array([recommendation.gain_at(p, r, k=k) for p, r in zip(pages, relevant, strict=True)])
        found = np.array([recommendation.weight_at(p, r, k=k) for p, r in zip(pages, relevant, strict=True)])
        plain = [(page, set(videos)) for page, videos in zip(pages, relevant, strict=True)]
        scores = scorer(self.rows.inputs)
        primary = partial(_share_of, gains)
        return Evaluation(
            metrics={
                f"ndcg@{k}": primary(np.ones(len(gains))),
                f"recall@{k}": float(found[:, 0].sum() / found[:, 1].sum()),
                f"ndcg@{k}_as_shown": float(np.mean([recommendation.ndcg_at(p, r, k=k) for p, r in plain])),
                f"recall@{k}_as_shown": float(np.mean([recommendation.recall_at(p, r, k=k) for p, r in plain])),
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
            gains = np.array(
                [
                    recommendation.gain_at(p, r, k=recommendation.PAGE_LENGTH)
                    for p, r in zip(pages, relevant, strict=True)
                ]
            )
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
            pages.append(compose_page(ranked, self.categories, case.recent, k=recommendation.PAGE_LENGTH))
        return pages


def _share_of(gains: Floats, weights: Floats) -> float:
    """What was reached of what could be, shape (n, 2), with weights for the pages; NaN where nothing could be."""
    reached, possible = weights @ gains
    return float(reached / possible) if possible else float("nan")
