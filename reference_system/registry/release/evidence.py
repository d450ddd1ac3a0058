"""What both models said to the same requests, and what came of it, as the numbers that guardrails look at.

In: paired answers. Out: a `RequestComparison`.
Invariant: both models are compared on the same requests; only what viewers did afterwards is compared between
different viewers, those of the canary and the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Flags, Floats
from reference_system.registry.release.guardrails import MetricDifference, OutcomeDifference, RequestComparison

# Reported frauds, and viewers in each arm, from which on a difference has an interval that can be believed.
MIN_FRAUDS, MIN_VIEWERS = 20, 50
# A release is looked at up to some hundred times: each look may be wrong once in 500 on either side.
_SIGMAS = 2.88
_DRAWS = 100
_BINS = 10
# Added to each bin's share: an empty bin counts as one in a thousand, however many rows there are.
_FLOOR = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePairs:
    """What both models said; `scores` and `champion_scores` have one element for each request (or shown video).

    The times are each model's own for one request, in milliseconds; the champion's are known during a canary.
    """

    scores: Floats
    champion_scores: Floats
    scoring_ms: Floats
    champion_scoring_ms: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPairs:
    """Payments that both models scored, shapes (n,): would they be reviewed or blocked, is a fraud reported so far."""

    said: ScorePairs
    alerts: Flags
    champion_alerts: Flags
    reported: Flags


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePairs:
    """Pages that both models composed, and what was watched of the pages that were shown.

    `videos` and `champion_videos` count the different videos on them. The watches have one element for each viewer of
    a canary: how many videos of a page were watched, on average, and whether the challenger chose the viewer's pages.
    """

    said: ScorePairs
    videos: int
    champion_videos: int
    watches: Floats
    in_canary: Flags


def compare_payments(pairs: PaymentPairs, *, seed: int) -> RequestComparison | None:
    """The fraud models side by side; `None` before anything was scored by both."""
    if not len(pairs.alerts):
        return None
    found = int(pairs.reported.sum())
    outcomes = (
        OutcomeDifference(
            what="average precision on frauds reported so far", count=found, difference=_precision(pairs, seed)
        ),
        OutcomeDifference(what="share of reported frauds that alert", count=found, difference=_caught(pairs)),
    )
    return _comparison(
        pairs.said,
        alerts=float(pairs.alerts.mean()),
        champion_alerts=float(pairs.champion_alerts.mean()),
        outcomes=outcomes,
    )


def compare_pages(pairs: PagePairs) -> RequestComparison | None:
    """The recommenders side by side; `None` before anything was composed by both."""
    if not len(pairs.said.scores) or not len(pairs.said.champion_scores):
        return None
    ours, theirs = pairs.watches[pairs.in_canary], pairs.watches[~pairs.in_canary]
    watched = OutcomeDifference(what="watches a page", count=len(ours), difference=_means(ours, theirs))
    return _comparison(pairs.said, variety=pairs.videos / max(pairs.champion_videos, 1), outcomes=(watched,))


def population_stability(scores: Floats, champion_scores: Floats) -> float:
    """The psi between two models' scores; ten bins with as many of the champion's scores each (`_FLOOR` is added)."""
    edges = np.unique(np.quantile(champion_scores, np.linspace(0, 1, _BINS + 1)[1:-1]))
    ours, theirs = (
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) / len(values) + _FLOOR
        for values in (scores, champion_scores)
    )
    return float(np.sum((ours - theirs) * np.log(ours / theirs)))


def _comparison(
    said: ScorePairs,
    *,
    outcomes: tuple[OutcomeDifference, ...],
    alerts: float | None = None,
    champion_alerts: float | None = None,
    variety: float | None = None,
) -> RequestComparison:
    return RequestComparison(
        scoring_p99_ms=_p99(said.scoring_ms) or 0.0,
        champion_scoring_p99_ms=_p99(said.champion_scoring_ms),
        psi=population_stability(said.scores, said.champion_scores),
        distinct_scores=len(np.unique(said.scores)),
        champion_distinct_scores=len(np.unique(said.champion_scores)),
        alerts=alerts,
        champion_alerts=champion_alerts,
        variety=variety,
        outcomes=outcomes,
    )


def _precision(pairs: PaymentPairs, seed: int) -> MetricDifference | None:
    """Both models meet the same draws of payments (a paired bootstrap)."""
    if pairs.reported.sum() < MIN_FRAUDS:
        return None
    rng = np.random.default_rng(seed)
    count = len(pairs.reported)
    ours, theirs = _ranked(pairs.said.scores, pairs.reported), _ranked(pairs.said.champion_scores, pairs.reported)
    everyone = np.ones(count)
    middle = _average_precision(*ours, everyone) - _average_precision(*theirs, everyone)
    draws = [
        _average_precision(*ours, weights) - _average_precision(*theirs, weights)
        for weights in (
            np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64) for _ in range(_DRAWS)
        )
    ]
    return _around(middle, float(np.std(draws)))


def _ranked(scores: Floats, labels: Flags) -> tuple[NDArray[np.intp], Flags, NDArray[np.intp]]:
    """Rows from the highest score down, their labels, and where each run of equal scores ends."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    return order, labels[order], ends


def _average_precision(order: NDArray[np.intp], labels: Flags, ends: NDArray[np.intp], weights: Floats) -> float:
    """Average precision with weights; rows of equal score count together, as scikit-learn has it."""
    weight = weights[order]
    true = np.cumsum(weight * labels)[ends]
    seen = np.cumsum(weight)[ends]
    if not true[-1]:
        return 0.0
    precision = np.divide(true, seen, out=np.zeros(len(ends)), where=seen > 0)
    return float(np.sum(np.diff(true, prepend=0.0) * precision) / true[-1])


def _caught(pairs: PaymentPairs) -> MetricDifference | None:
    """Of the frauds, those that one model alone would have stopped decide (McNemar), one more added for safety."""
    frauds = int(pairs.reported.sum())
    if frauds < MIN_FRAUDS:
        return None
    ours = int((pairs.reported & pairs.alerts & ~pairs.champion_alerts).sum())
    theirs = int((pairs.reported & pairs.champion_alerts & ~pairs.alerts).sum())
    return _around((ours - theirs) / frauds, float(np.sqrt(ours + theirs + 1.0)) / frauds)


def _means(ours: Floats, theirs: Floats) -> MetricDifference | None:
    if min(len(ours), len(theirs)) < MIN_VIEWERS:
        return None
    error = np.sqrt(ours.var(ddof=1) / len(ours) + theirs.var(ddof=1) / len(theirs))
    return _around(float(ours.mean() - theirs.mean()), float(error))


def _around(middle: float, error: float) -> MetricDifference:
    return MetricDifference(low=middle - _SIGMAS * error, middle=middle, high=middle + _SIGMAS * error)


def _p99(values: Floats) -> float | None:
    return float(np.quantile(values, 0.99)) if len(values) else None
