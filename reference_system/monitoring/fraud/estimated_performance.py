"""Estimated performance: what a model's own scores let expect, before any label arrives.

In: calibrated scores and the threshold of review. Out: expected precision, recall and average precision.
Invariant: the estimate uses no label. It is right while a score still means what it meant when it was calibrated, so
it follows a change of the inputs and is blind to a change of their meaning: thieves with a new habit keep it high.
Reported labels beside it are what shows that (see `monitoring/fraud/early_outcomes.py`).
"""

from __future__ import annotations

import msgspec
import numpy as np

from reference_system.arrays import Floats


class ExpectedOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """What to expect of one day's payments; `frauds` is how many of them the scores announce."""

    frauds: float
    average_precision: float
    precision: float | None = None
    recall: float | None = None


def expected_outcomes(scores: Floats, *, review: float | None) -> ExpectedOutcomes | None:
    """The expectation of each figure if every payment is a fraud with its score's probability, shape (n,).

    `None` without scores, or if they announce nothing.
    """
    ordered = np.sort(scores[~np.isnan(scores)])[::-1]
    total = float(ordered.sum())
    if not len(ordered) or total <= 0.0:
        return None
    # At the place of a fraud: itself, and the frauds expected among those ranked higher.
    above = np.cumsum(ordered) - ordered
    at_place = (above + 1.0) / np.arange(1, len(ordered) + 1)
    flagged = ordered[ordered >= review] if review is not None else ordered[:0]
    return ExpectedOutcomes(
        frauds=total,
        average_precision=float((ordered * at_place).sum() / total),
        precision=float(flagged.mean()) if len(flagged) else None,
        recall=float(flagged.sum() / total) if review is not None else None,
    )
