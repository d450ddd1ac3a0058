"""From score to decision.

Two thresholds, set at training time: those that would have cost least on payments whose outcome is known, among the
thresholds that keep two budgets: what the review staff can handle, and the share of genuine payments that may be
refused. The model's number is a probability; what we do with it is the decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reference_system.arrays import Floats
from reference_system.use_cases.fraud.features import WINDOW_DAYS

Decision = Literal["approve", "review", "block"]
# Costs in the currency of the amounts. A fraud that is approved costs its amount, which the issuer refunds; one that
# is reviewed or blocked costs no more than the review. The other two are assumptions: five minutes of an analyst at
# 36 an hour, and a genuine customer who is refused pays elsewhere, calls, and sometimes leaves.
REVIEW_COST = 3.0
BLOCKED_GENUINE_COST = 20.0
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


def set_thresholds(scores: Floats, labels: Floats, amounts: Floats, *, days: float) -> Thresholds:
    """The cheapest thresholds that keep both budgets.

    Args:
        scores: shape (n,), of the payments of some days.
        labels: shape (n,), 1 for a fraud.
        amounts: shape (n,), what was paid.
        days: how many days they are.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    # A threshold takes equal scores together: it can lie before the first payment, or after the last of each run.
    ends = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(ordered)]])
    genuine = np.concatenate([[0.0], np.cumsum(labels[order] == 0)])[ends]
    saved = np.concatenate([[0.0], np.cumsum(amounts[order] * labels[order])])[ends]
    # What it costs to block the first payments rather than to review them, and to review them rather than approve.
    blocking = BLOCKED_GENUINE_COST * genuine - REVIEW_COST * ends
    reviewing = REVIEW_COST * ends - saved
    alerts = int(min(ALERTS_PER_DAY * days, MAX_ALERT_SHARE * len(scores)))
    refused = int(BLOCKED_GENUINE_SHARE * genuine[-1])
    cheapest, blocked, alerted = np.inf, 0, 0
    for place in range(int(np.searchsorted(genuine, refused, side="right"))):
        # The staff reviews what is not blocked.
        last = int(np.searchsorted(ends, ends[place] + alerts, side="right"))
        best = place + int(np.argmin(reviewing[place:last]))
        cost = blocking[place] + reviewing[best]
        if cost < cheapest:
            cheapest, blocked, alerted = cost, place, best
    return Thresholds(review=_above(ordered, int(ends[alerted])), block=_above(ordered, int(ends[blocked])))


def expected_cost(scores: Floats, labels: Floats, amounts: Floats, thresholds: Thresholds) -> float:
    """What the decisions cost on payments whose outcome is known; the shapes are (n,)."""
    blocked, approved = scores >= thresholds.block, scores < thresholds.review
    reviewed = ~blocked & ~approved
    return float(
        (amounts * labels)[approved].sum()
        + REVIEW_COST * reviewed.sum()
        + BLOCKED_GENUINE_COST * (labels[blocked] == 0).sum()
    )


def _above(ordered: Floats, count: int) -> float:
    """The lowest threshold that only the first `count` of the scores reach; they fall."""
    if count == len(ordered):
        return float(ordered[-1])
    return float(np.nextafter(ordered[count], np.inf))


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
        names: the inputs' names, of `features.INPUTS`.
    """
    over = [
        (value / limit if limit > 0 else value + 1.0, name, value, limit)
        for name, value, limit in zip(names, inputs, usual, strict=True)
        if value > limit
    ]
    over.sort(reverse=True)
    return tuple(_sentence(name, value, limit) for _, name, value, limit in over[:_REASONS])


def _sentence(name: str, value: float, limit: float) -> str:
    form, what = _WORDS[name]
    if form == "":
        return f"{what}; fewer than 1 % of genuine payments are"
    is_, at_most = (form.format(number).replace("%", " %") for number in (value, limit))
    return f"{is_} {what}; at most {at_most} in 99 % of genuine payments"


def _words() -> dict[str, tuple[str, str]]:
    """How a number of each input is written, and what it counts."""
    count, money, share = "{:.4g}", "{:.2f}", "{:.0%}"
    words = {"amount": (money, "to pay"), "is_weekend": ("", "at the weekend"), "is_night": ("", "at night")}
    for days in WINDOW_DAYS:
        time = "a day" if days == 1 else f"{days} days"
        # A terminal's windows end a label delay ago: the outcome of younger payments is not known yet.
        words |= {
            f"customer_transaction_count_{days}d": (count, f"payments by this card in {time}"),
            f"customer_mean_amount_{days}d": (money, f"on average by this card in {time}"),
            f"terminal_transaction_count_{days}d": (count, f"payments at this terminal in {time} a week ago"),
            f"terminal_fraud_rate_{days}d": (share, f"frauds at this terminal in {time} of known outcomes"),
        }
    return words


_WORDS: Mapping[str, tuple[str, str]] = _words()
