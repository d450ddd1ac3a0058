"""Both fraud models on the same payments, and the frauds that were reported of them so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Flags
from reference_system.metrics.ranking import Ordered
from reference_system.registry.release.evidence import ScorePairs, around, compared
from reference_system.registry.release.guardrails import (
    MetricDifference,
    OutcomeDifference,
    RequestComparison,
)

# Reported frauds from which on a difference has an interval that can be believed.
MIN_FRAUDS = 20


_DRAWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentPairs:
    """Payments that both models scored, shapes (n,): would they be reviewed or blocked, is a fraud reported so far."""

    said: ScorePairs
    alerts: Flags
    champion_alerts: Flags
    reported: Flags


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
    return compared(
        pairs.said,
        alerts=float(pairs.alerts.mean()),
        champion_alerts=float(pairs.champion_alerts.mean()),
        outcomes=outcomes,
    )


def _precision(pairs: PaymentPairs, seed: int) -> MetricDifference | None:
    """Both models meet the same draws of payments (a paired bootstrap)."""
    if pairs.reported.sum() < MIN_FRAUDS:
        return None
    rng = np.random.default_rng(seed)
    count, labels = len(pairs.reported), pairs.reported.astype(np.float64)
    ours, theirs = (Ordered.by(scores, labels) for scores in (pairs.said.scores, pairs.said.champion_scores))
    draws = [
        ours.average_precision(weights) - theirs.average_precision(weights)
        for weights in (
            np.bincount(rng.integers(0, count, count), minlength=count).astype(np.float64) for _ in range(_DRAWS)
        )
    ]
    # A draw without a fraud has no average precision, for either model.
    return around(ours.average_precision() - theirs.average_precision(), float(np.nanstd(draws)))


def _caught(pairs: PaymentPairs) -> MetricDifference | None:
    """Of the frauds, those that one model alone would have stopped decide (McNemar), one more added for safety."""
    frauds = int(pairs.reported.sum())
    if frauds < MIN_FRAUDS:
        return None
    ours = int((pairs.reported & pairs.alerts & ~pairs.champion_alerts).sum())
    theirs = int((pairs.reported & pairs.champion_alerts & ~pairs.alerts).sum())
    return around((ours - theirs) / frauds, float(np.sqrt(ours + theirs + 1.0)) / frauds)
