"""Ranking metrics of binary labels, by scikit-learn; candidates are judged by the same metrics with a weight a row.

In: scores and labels. Out: average precision and ROC AUC.
Invariant: labels of one class give no number. `metrics/ranking.py`, which evaluates candidates,
gives the same.
"""

from __future__ import annotations

from sklearn.metrics import average_precision_score, roc_auc_score

from reference_system.arrays import Floats


def average_precision(labels: Floats, scores: Floats) -> float | None:
    """The area under precision over recall; `None` without a positive or without a negative label."""
    return float(average_precision_score(labels, scores)) if _both(labels) else None


def roc_auc(labels: Floats, scores: Floats) -> float | None:
    """The probability that a positive scores above a negative; `None` without both."""
    return float(roc_auc_score(labels, scores)) if _both(labels) else None


def _both(labels: Floats) -> bool:
    return bool(len(labels)) and 0.0 < float(labels.mean()) < 1.0
