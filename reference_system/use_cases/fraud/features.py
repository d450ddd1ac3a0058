"""The fifteen inputs of the fraud model.

Semantics are the public Fraud Detection Handbook's, so that results can be compared with its tables: customer
windows are `(t - w, t]`, the transaction itself included; terminal windows are shifted by the label delay d,
`(t - d - w, t - d]`, because the outcome of younger payments is not known yet.
Source: Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, chapter 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import numpy as np

from reference_system.arrays import Floats
from reference_system.reported_rows import Once
from reference_system.use_cases.fraud.labels import LABEL_DELAY_DAYS
from reference_system.windows import Rows, WindowedView, ratio, total

WINDOW_DAYS = (1, 7, 30)

CUSTOMER_ACTIVITY = WindowedView(
    name="customer_activity",
    entity="customer_id",
    rows=(
        Rows(
            topic="transactions",
            entity="customer_id",
            values=(("transactions", 1.0), ("amount", "amount")),
        ),
    ),
    windows=(
        *(total(f"customer_transaction_count_{d}d", "transactions", days=d) for d in WINDOW_DAYS),
        *(ratio(f"customer_mean_amount_{d}d", "amount", "transactions", days=d) for d in WINDOW_DAYS),
    ),
    asked_by=Rows(topic="transactions", entity="customer_id", values=()),
)

TERMINAL_RISK = WindowedView(
    name="terminal_risk",
    entity="terminal_id",
    rows=(
        Rows(topic="transactions", entity="terminal_id", values=(("transactions", 1.0), ("frauds", 0.0))),
        Rows(
            topic="chargebacks",
            entity="terminal_id",
            values=(("transactions", 0.0), ("frauds", 1.0)),
            # A chargeback that comes later than the shift would appear in windows that have already been asked for.
            known_within_days=LABEL_DELAY_DAYS,
            once=Once(per="transaction_id", taken_back_by="chargeback-reversals"),
        ),
    ),
    windows=(
        *(
            total(f"terminal_transaction_count_{d}d", "transactions", days=d, delay_days=LABEL_DELAY_DAYS)
            for d in WINDOW_DAYS
        ),
        *(
            ratio(f"terminal_fraud_rate_{d}d", "frauds", "transactions", days=d, delay_days=LABEL_DELAY_DAYS)
            for d in WINDOW_DAYS
        ),
    ),
    asked_by=Rows(topic="transactions", entity="terminal_id", values=()),
)

VIEWS = (CUSTOMER_ACTIVITY, TERMINAL_RISK)
REQUEST_INPUTS = ("amount", "is_weekend", "is_night")
INPUTS = (*REQUEST_INPUTS, *CUSTOMER_ACTIVITY.features, *TERMINAL_RISK.features)

_SATURDAY = 5
_LAST_NIGHT_HOUR = 6


def request_inputs(amount: float, moment: datetime) -> tuple[float, float, float]:
    """`REQUEST_INPUTS` of one payment; `moment` is UTC."""
    return (
        amount,
        float(moment.weekday() >= _SATURDAY),
        float(moment.hour <= _LAST_NIGHT_HOUR),
    )


def own_row(amount: float) -> dict[str, float]:
    """The row that the payment itself adds to its customer's windows."""
    return {"transactions": 1.0, "amount": amount}


def model_inputs(amount: float, moment: datetime, customer: Iterable[float], terminal: Iterable[float]) -> Floats:
    """The model's input row, shape (15,), in the order of `INPUTS`."""
    return np.array((*request_inputs(amount, moment), *customer, *terminal))
