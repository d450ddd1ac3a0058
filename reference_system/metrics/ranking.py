"""How well scores order labels, with a weight for each row.

In: scores, labels. Out: numbers in [0, 1]. Invariant: rows with the same score are taken together, in any order.

The order is found once; a bootstrap then asks for the value under other weights, which costs a cumulative sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats, Ints


@dataclass(frozen=True, slots=True)
class Ordered:
    """Labels in the order of falling scores; `ends` are the last rows of each run of equal scores."""

    order: Ints
    labels: Floats
    ends: Ints

    @classmethod
    def by(cls, scores: Floats, labels: Floats) -> Ordered:
        """Order the rows; both of shape (n,)."""
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        ends = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
        return cls(order, labels[order], ends)

    def average_precision(self, weights: Floats | None = None) -> float:
        """The mean precision at the positive rows; NaN without positive weight. `weights` has shape (n,)."""
        found, seen = self._cumulated(weights)
        if found[-1] <= 0.0:
            return float("nan")
        precision = found / np.maximum(seen, 1e-12)
        return float((np.diff(found, prepend=0.0) * precision).sum() / found[-1])

    def roc_auc(self) -> float:
        """The probability that a positive row has a higher score than a negative one (ties count one half)."""
        found, seen = self._cumulated(None)
        true = np.concatenate([[0.0], found / found[-1]])
        false = np.concatenate([[0.0], (seen - found) / (seen - found)[-1]])
        return float((np.diff(false) * (true[1:] + true[:-1]) / 2.0).sum())

    def precision_recall(self) -> tuple[Floats, Floats]:
        """Precision and recall at each threshold, the highest first."""
        found, seen = self._cumulated(None)
        return found / seen, found / found[-1]

    def _cumulated(self, weights: Floats | None) -> tuple[Floats, Floats]:
        """The weight of positives, and of all rows, down to each threshold."""
        if weights is None:
            return np.cumsum(self.labels)[self.ends], (self.ends + 1).astype(np.float64)
        ordered = weights[self.order]
        return np.cumsum(ordered * self.labels)[self.ends], np.cumsum(ordered)[self.ends]
