"""The fraud training set: payments, their features as they were at their moment, their labels.

In: the lake, a window, the point-in-time join. Out: labelled rows.
Invariant: the columns are `fraud.features.INPUTS`, in that order, computed by the functions that serving calls.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from reference_system.training import duckdb_events
from reference_system.training.labelled_rows import LabelledRows, require_both_classes
from reference_system.training.point_in_time import Join, joined
from reference_system.training.temporal_split import Span
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK, request_inputs
from reference_system.windows import moment_of


def fraud_rows(lake: Path, span: Span, join: Join, *, what: str) -> LabelledRows:
    """The payments of a window.

    Args:
        lake: the lake's folder.
        span: the window; its labels are those known a label delay after its end.
        join: the point-in-time join.
        what: the window's name in an error message.

    Raises:
        TrainingError: if the window has no payments, one kind of outcome, or features that nobody computed.
    """
    payments = duckdb_events.payments(lake, span)
    labels = payments["label"].to_numpy()
    require_both_classes(labels, what, span)
    times = payments["time"].to_numpy()
    keys = {CUSTOMER_ACTIVITY: payments["customer_id"], TERMINAL_RISK: payments["terminal_id"]}
    customers, terminals = joined(join, keys, times, span)
    requests = [
        request_inputs(amount, moment_of(time))
        for amount, time in zip(payments["amount"].to_pylist(), times.tolist(), strict=True)
    ]
    cards = payments["customer_id"].combine_chunks().dictionary_encode().indices
    return LabelledRows(
        inputs=np.column_stack([np.array(requests), customers, terminals]).astype(np.float32),
        labels=labels,
        groups=pc.cast(cards, "int64").to_numpy(),
        times=times,
    )
