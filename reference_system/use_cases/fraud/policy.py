"""From score to decision.

Two thresholds, set at training time from budgets: the review threshold so that the expected number of alerts a day
is what the review staff can handle, the block threshold so that at most a stated share of genuine payments is
refused. The model's number is a score; what we do with it is the decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from reference_system.windows import Floats

Decision = Literal["approve", "review", "block"]
# Reviews that the staff can handle in a day, and the share of genuine payments that may be refused. Stripe states
# 0.1 % for the latter (stripe.com/blog/how-we-built-it-stripe-radar).
ALERTS_PER_DAY = 100
BLOCKED_GENUINE_SHARE = 0.001
# Without features there is no score: amounts above this are reviewed, the rest approved.
DEGRADED_REVIEW_AMOUNT = 200.0
_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Scores from which a payment is reviewed or blocked; `review <= block`."""

    review: float
    block: float


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
