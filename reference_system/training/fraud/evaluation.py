"""Evaluation of fraud scores by the payments of the test window.

Invariant: a slice is found by the model's own inputs, so it is the same for every model that is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Flags, Floats, Floats32
from reference_system.event_time import MICROS_PER_DAY
from reference_system.metrics.ranking import Ordered
from reference_system.training.evaluation.evaluation import CALIBRATION_ERROR, Evaluation, Scorer, Slice
from reference_system.training.evaluation.reliability import expected_calibration_error
from reference_system.training.labelled_rows import LabelledRows
from reference_system.use_cases.fraud.features import INPUTS
from reference_system.use_cases.fraud.model import card_precision_at, checked_cards

# The bands into which amounts fall (the first has no lower end, the last no upper one).
AMOUNT_EDGES = (10.0, 50.0, 150.0)
# Cards with at most this many payments in thirty days: nobody knows their habits yet.
FEW_PAYMENTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentEvaluator:
    """Evaluates fraud scores on the payments of the test window."""

    rows: LabelledRows

    @property
    def groups(self) -> int:
        """The number of cards."""
        return int(self.rows.groups.max()) + 1

    def evaluate(self, scorer: Scorer) -> Evaluation:
        """Average precision, ROC AUC and card precision@k."""
        scores = scorer(self.rows.inputs)
        ordered = Ordered.by(scores, self.rows.labels)
        days = self.rows.times // MICROS_PER_DAY
        k = checked_cards(self.groups)
        return Evaluation(
            metrics={
                "average_precision": ordered.average_precision(),
                "roc_auc": ordered.roc_auc(),
                f"card_precision@{k}": card_precision_at(scores, self.rows.labels, self.rows.groups, days, k=k),
                CALIBRATION_ERROR: expected_calibration_error(scores, self.rows.labels),
            },
            scores=scores,
            primary=lambda weights: ordered.average_precision(weights[self.rows.groups]),
            slices=partial(self._slices, scores),
        )

    def _slices(self, scores: Floats) -> Mapping[str, Slice]:
        def of(rows: NDArray[np.bool_]) -> Slice:
            ordered, groups = Ordered.by(scores[rows], self.rows.labels[rows]), self.rows.groups[rows]
            return Slice(
                worth=lambda weights: ordered.average_precision(weights[groups]),
                positives=int(self.rows.labels[rows].sum()),
            )

        return {name: of(rows) for name, rows in payment_slices(self.rows.inputs).items() if rows.any()}


def payment_slices(inputs: Floats32) -> Mapping[str, Flags]:
    """Which payments, by amount, hour, age of the card and past of the terminal; each shape (n,)."""

    def column(name: str) -> NDArray[np.float32]:
        return inputs[:, INPUTS.index(name)]

    # What was refunded lies below the lowest band's name, and in it.
    amount, edges = np.maximum(column("amount"), 0.0), (0.0, *AMOUNT_EDGES, np.inf)
    night, known_fraud = column("is_night") > 0, column("terminal_fraud_rate_30d") > 0
    few = column("customer_transaction_count_30d") <= FEW_PAYMENTS
    bands = {_band(low, high): (low <= amount) & (amount < high) for low, high in pairwise(edges)}
    return {
        **bands,
        "night": night,
        "day": ~night,
        "new customers": few,
        "terminal with known fraud": known_fraud,
        "terminal without known fraud": ~known_fraud,
    }


def _band(low: float, high: float) -> str:
    return f"amount {low:g} to {high:g}" if np.isfinite(high) else f"amount from {low:g}"
