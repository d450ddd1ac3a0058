"""Calibration: from a model's number to a probability.

In: scores of rows that the model did not learn from, with their labels. Out: three numbers; a strictly rising map of
[0, 1] into (0, 1).
Invariant: the order of two scores never changes, so whatever depends on ranks (average precision, ROC AUC) stays.

The map is beta calibration: `sigmoid(a ln q - b ln(1 - q) + c)`, with a and b not negative. For a = b it is Platt's
on the logit; the two slopes let it bend differently at both ends, which averaged votes of a forest need. Unlike
isotonic regression it has no steps, so a difference of 1e-7 in the score stays one in the probability.
Source: Kull, Silva Filho and Flach, Beta calibration, AISTATS 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats

# Scores are drawn in by this much before their logarithm: a forest says 0 and 1, and rounding must not be magnified.
MARGIN = 1e-3
# Against separable data: one unit of a slope costs as much as this many nats of likelihood, twice.
_RIDGE = 0.05
_STEPS, _CLOSE = 50, 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The slopes at both ends and the shift."""

    a: float
    b: float
    c: float

    def apply(self, scores: Floats) -> Floats:
        """The probability of each score, in the same order."""
        logits = _terms(scores) @ np.array([self.a, self.b, self.c])
        probabilities: Floats = 1.0 / (1.0 + np.exp(-logits))
        return probabilities


def fit_calibration(scores: Floats, labels: Floats) -> Calibration | None:
    """The likeliest map, or `None` where the scores do not order the labels: there is nothing to calibrate.

    Args:
        scores: shape (n,), of rows that the model did not learn from.
        labels: shape (n,), 0 or 1, both present.
    """
    terms = _terms(scores)
    for wanted in ([0, 1, 2], [0, 2], [1, 2]):
        found = np.zeros(3)
        found[wanted] = _likeliest(terms[:, wanted], labels)
        if (found[:2] >= 0.0).all() and found[:2].sum() > _CLOSE:
            return Calibration(a=float(found[0]), b=float(found[1]), c=float(found[2]))
    return None


def _terms(scores: Floats) -> Floats:
    drawn_in = MARGIN + (1.0 - 2.0 * MARGIN) * scores
    return np.column_stack([np.log(drawn_in), -np.log(1.0 - drawn_in), np.ones(len(drawn_in))])


def _likeliest(terms: Floats, labels: Floats) -> Floats:
    """Logistic regression by Newton's steps; the shift alone is not penalised."""
    penalty = np.full(terms.shape[1], _RIDGE)
    penalty[-1] = 0.0
    weights: Floats = np.zeros(terms.shape[1])
    weights[:-1] = 1.0
    step: Floats = np.zeros_like(weights)
    loss = np.inf
    for _ in range(_STEPS):
        logits = terms @ weights
        after = float((np.logaddexp(0.0, logits) - labels * logits).sum() + (penalty * weights**2).sum() / 2.0)
        if after > loss:  # too far: half the step
            step = step / 2.0
            weights = weights + step
            continue
        chances = 1.0 / (1.0 + np.exp(-logits))
        slope = terms.T @ (chances - labels) + penalty * weights
        curve = (terms * (chances * (1.0 - chances))[:, None]).T @ terms + np.diag(penalty + _CLOSE)
        step = np.asarray(np.linalg.solve(curve, slope), np.float64)
        if loss - after < _CLOSE * max(1.0, abs(after)):
            break
        loss = after
        weights = weights - step
    return weights
