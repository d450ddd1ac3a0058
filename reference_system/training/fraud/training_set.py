"""The fraud training set: payments, their features as they were at their moment, their labels.

In: the lake, a window, the point-in-time join. Out: labelled rows.
Invariant: the columns are `fraud.features.INPUTS`, in that order, computed by the functions that serving calls.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.errors import TrainingError
from reference_system.event_time import moment_of
from reference_system.training.fraud import duckdb_events
from reference_system.training.labelled_rows import LabelledRows, canonical_order, require_both_classes
from reference_system.training.point_in_time import Join, joined
from reference_system.training.temporal_split import Span
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK, request_inputs

# Which of a window's payments are wanted, by card and moment (microseconds).
WantedPayment = Callable[[str, int], bool]


def fraud_rows(  # noqa: PLR0913 - where from, which, what is known of them, and what to call them
    lake: Path,
    span: Span,
    join: Join,
    *,
    what: str,
    known: datetime | None = None,
    wanted: WantedPayment | None = None,
    both_classes: bool = True,
) -> LabelledRows:
    """The payments of a window.

    Args:
        lake: the lake's folder.
        span: the window.
        join: the point-in-time join.
        what: the window's name in an error message.
        known: its labels are those known then; by default a label delay after its end.
        wanted: which of them; by default all.
        both_classes: whether a window with one kind of outcome is refused.

    Raises:
        TrainingError: if the window has no payments, one kind of outcome, or features that nobody computed.
    """
    payments = duckdb_events.labelled_payments(lake, span, known=known)
    if wanted is not None:
        payments = _filtered(payments, wanted)
    labels = payments["label"].to_numpy()
    if both_classes:
        require_both_classes(labels, what, span)
    times = payments["time"].to_numpy()
    keys = {CUSTOMER_ACTIVITY: payments["customer_id"], TERMINAL_RISK: payments["terminal_id"]}
    customers, terminals = joined(join, keys, times, span)
    requests = [
        request_inputs(amount, moment_of(time))
        for amount, time in zip(payments["amount"].to_pylist(), times.tolist(), strict=True)
    ]
    inputs = np.column_stack([np.array(requests), customers, terminals]).astype(np.float32)
    order = canonical_order(times, inputs, labels)
    cards = payments["customer_id"].combine_chunks().take(pa.array(order)).dictionary_encode().indices
    return LabelledRows(
        inputs=inputs[order],
        labels=labels[order],
        groups=pc.cast(cards, "int64").to_numpy(),
        times=times[order],
    )


def require_positives(rows: LabelledRows, least: int, span: Span) -> None:
    """Refuse a window whose labels are too few to compare two models by.

    Raises:
        TrainingError: with how many there are and how many are needed.
    """
    positives = int(rows.labels.sum())
    if positives < least:
        raise TrainingError(
            f"only {positives} frauds were reported among the {len(rows)} payments from {span} that judge a model"
            f" ({least} are needed); the alarm stays, and more will be reported in some hours",
            next_command="workbook train fraud --trigger performance",
        )


def _filtered(payments: pa.Table, wanted: WantedPayment) -> pa.Table:
    pairs = zip(payments["customer_id"].to_pylist(), payments["time"].to_pylist(), strict=True)
    return payments.filter(pa.array([wanted(card, time) for card, time in pairs], pa.bool_()))
