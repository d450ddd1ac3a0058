"""What both models said to the same requests, and what came of it, as the numbers that guardrails look at.

In: paired answers. Out: a `RequestComparison`.
Invariant: both models are compared on the same requests; only what viewers did afterwards is compared between
different viewers, those of the canary and the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats
from reference_system.registry.release.guardrails import (
    MetricDifference,
    OutcomeDifference,
    RequestComparison,
)

# A release is looked at up to some hundred times: each look may be wrong once in 500 on either side.
_SIGMAS = 2.88
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


def population_stability(scores: Floats, champion_scores: Floats) -> float:
    """The psi between two models' scores; ten bins with as many of the champion's scores each (`_FLOOR` is added)."""
    edges = np.unique(np.quantile(champion_scores, np.linspace(0, 1, _BINS + 1)[1:-1]))
    ours, theirs = (
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) / len(values) + _FLOOR
        for values in (scores, champion_scores)
    )
    return float(np.sum((ours - theirs) * np.log(ours / theirs)))


def compared(
    said: ScorePairs,
    *,
    outcomes: tuple[OutcomeDifference, ...],
    alerts: float | None = None,
    champion_alerts: float | None = None,
    variety: float | None = None,
) -> RequestComparison:
    """The comparison of both models on the same requests; the fields of another use case stay `None`."""
    return RequestComparison(
        scoring_p99_ms=_p99_of(said.scoring_ms) or 0.0,
        champion_scoring_p99_ms=_p99_of(said.champion_scoring_ms),
        psi=population_stability(said.scores, said.champion_scores),
        distinct_scores=len(np.unique(said.scores)),
        champion_distinct_scores=len(np.unique(said.champion_scores)),
        alerts=alerts,
        champion_alerts=champion_alerts,
        variety=variety,
        outcomes=outcomes,
    )


def around(middle: float, error: float) -> MetricDifference:
    """A difference with the interval that its standard error gives."""
    return MetricDifference(low=middle - _SIGMAS * error, middle=middle, high=middle + _SIGMAS * error)


def _p99_of(values: Floats) -> float | None:
    return float(np.quantile(values, 0.99)) if len(values) else None
