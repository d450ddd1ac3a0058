"""The fraud model's inputs at every payment of a lake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from reference_system.event_time import MICROS_PER_DAY, moment_of
from reference_system.features.history.model_inputs import columns_of, events_in_order, times_of
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.use_cases.fraud.features import INPUTS, REQUEST_INPUTS, VIEWS, request_inputs

_MICROS_PER_HOUR = MICROS_PER_DAY // 24


def fraud_inputs(lake: Path, order: Path) -> pa.Table:
    """`transaction_id` and `fraud.features.INPUTS` of every payment.

    Args:
        lake: the lake's folder.
        order: a folder with the rows of the imported events, which the live system does not have.
    """
    payments = events_in_order(lake, TRANSACTIONS, order)
    amounts, times = payments["amount"].to_numpy(), times_of(payments)
    # Weekend and night hold for a whole hour: one call for each hour instead of one for each payment.
    hours, of_row = np.unique(times // _MICROS_PER_HOUR, return_inverse=True)
    of_hour = np.array([request_inputs(0.0, moment_of(int(hour) * _MICROS_PER_HOUR)) for hour in hours])
    columns = dict(zip(REQUEST_INPUTS, of_hour.reshape(-1, len(REQUEST_INPUTS))[of_row].T, strict=True))
    columns["amount"] = amounts
    for view in VIEWS:
        columns.update(columns_of(view, lake, payments))
    return pa.table({"transaction_id": payments["transaction_id"], **{name: columns[name] for name in INPUTS}})
