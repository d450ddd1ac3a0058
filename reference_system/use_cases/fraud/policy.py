"""From score to decision.

Two thresholds, set at training time from budgets: the review threshold so that the expected number of alerts a day
is what the review staff can handle, the block threshold so that at most a stated share of genuine payments is
refused. The model's number is a score; what we do with it is the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reference_system.windows import Floats

Decision = Literal["approve", "review", "block"]
# Reviews that the staff can handle in a day, and the share of genuine payments that may be refused. Stripe states
# 0.1 % for the latter (stripe.com/blog/how-we-built-it-stripe-radar).
ALERTS_PER_DAY = 100
# A small world has fewer payments than the staff could review: then this share of them is the budget.
MAX_ALERT_SHARE = 0.02
BLOCKED_GENUINE_SHARE = 0.001
# Without features there is no score: amounts above this are reviewed, the rest approved.
DEGRADED_REVIEW_AMOUNT = 200.0
_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Scores from which a payment is reviewed or blocked; `review <= block`."""

    review: float
    block: float


def set_thresholds(scores: Floats, labels: Floats, *, days: float) -> Thresholds:
    """The lowest thresholds that keep both budgets.

    Args:
        scores: shape (n,), of the payments of some days.
        labels: shape (n,), 1 for a fraud; at least one is 0.
        days: how many days they are.
    """
    alerts = int(min(ALERTS_PER_DAY * days, MAX_ALERT_SHARE * len(scores)))
    genuine = scores[labels == 0]
    block = _lowest_threshold(genuine, int(BLOCKED_GENUINE_SHARE * len(genuine)))
    return Thresholds(review=min(_lowest_threshold(scores, alerts), block), block=block)


def _lowest_threshold(scores: Floats, most: int) -> float:
    """The lowest threshold that at most `most` of the scores reach: just above the next one below them."""
    below = np.sort(scores)[::-1][min(most, len(scores) - 1)]
    return float(np.nextafter(below, np.inf))


def decide(score: float, thresholds: Thresholds) -> Decision:
    """The decision for a score."""
    if score >= thresholds.block:
        return "block"
    return "review" if score >= thresholds.review else "approve"


def decide_degraded(amount: float) -> Decision:
    """The decision when the features could not be read: a stated rule, never a guess of the model."""
    return "review" if amount > DEGRADED_REVIEW_AMOUNT else "approve"


def reasons(inputs: Floats, usual: Floats, names: Sequence[str]) -> tuple[str, ...]:
    """The inputs that stand out, most unusual first, in words.

    Args:
        inputs: shape (15,), the model's input row.
        usual: shape (15,), the 99th percentile of each input among genuine payments of the training window.
        names: the inputs' names.
    """
    over = [
        (value / limit if limit > 0 else value + 1.0, name, value, limit)
        for name, value, limit in zip(names, inputs, usual, strict=True)
        if value > limit
    ]
    over.sort(reverse=True)
    return tuple(
        f"{name} is {value:.4g}, above {limit:.4g} in 99 % of genuine payments"
        for _, name, value, limit in over[:_REASONS]
    )
