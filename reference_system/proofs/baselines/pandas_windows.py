"""The fifteen inputs as the Fraud Detection Handbook computes them: pandas rolling windows, entity by entity.

In: a Parquet file of payments in the public data's columns. Out: a Parquet file of the inputs, in time order.
Invariant: the same inputs as `fraud.features`, except for rows of one entity in the same second: pandas counts only
those before the row, the declaration counts all.

The baseline of `workbook bench features` and of tests. It runs as a process, so that it is measured like our
implementation. Source of the semantics: Le Borgne et al., chapter 3.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import pandas as pd

from reference_system.use_cases.fraud.features import INPUTS, WINDOW_DAYS
from reference_system.use_cases.fraud.labels import LABEL_DELAY_DAYS

_SATURDAY, _LAST_NIGHT_HOUR = 5, 6


def inputs(payments: pd.DataFrame) -> pd.DataFrame:
    """`transaction_id` and `fraud.features.INPUTS` of every payment, in time order."""
    payments = payments.sort_values("TX_DATETIME", kind="stable")
    found = pd.DataFrame(
        {
            "amount": payments.TX_AMOUNT,
            "is_weekend": (payments.TX_DATETIME.dt.weekday >= _SATURDAY).astype(float),
            "is_night": (payments.TX_DATETIME.dt.hour <= _LAST_NIGHT_HOUR).astype(float),
        }
    )
    found.index = pd.Index(payments.TRANSACTION_ID, name="transaction_id")
    found = found.join(_by_group(payments, "CUSTOMER_ID", of_customer))
    found = found.join(_by_group(payments, "TERMINAL_ID", of_terminal))
    return found[list(INPUTS)].reset_index()


def of_customer(payments: pd.DataFrame) -> pd.DataFrame:
    """The customer's windows at each of the customer's payments, which are in time order."""
    at = payments.set_index("TX_DATETIME")
    columns = {}
    for days in WINDOW_DAYS:
        window = at.TX_AMOUNT.rolling(f"{days}d")
        columns[f"customer_transaction_count_{days}d"] = window.count()
        columns[f"customer_mean_amount_{days}d"] = window.sum() / window.count()
    return pd.DataFrame(columns).set_index(payments.TRANSACTION_ID.to_numpy())


def of_terminal(payments: pd.DataFrame) -> pd.DataFrame:
    """The terminal's windows: those up to now without those of the label delay."""
    at = payments.set_index("TX_DATETIME")
    delay = at.TX_FRAUD.rolling(f"{LABEL_DELAY_DAYS}d")
    columns = {}
    for days in WINDOW_DAYS:
        window = at.TX_FRAUD.rolling(f"{LABEL_DELAY_DAYS + days}d")
        count = window.count() - delay.count()
        columns[f"terminal_transaction_count_{days}d"] = count
        columns[f"terminal_fraud_rate_{days}d"] = ((window.sum() - delay.sum()) / count).fillna(0.0)
    return pd.DataFrame(columns).set_index(payments.TRANSACTION_ID.to_numpy())


def _by_group(payments: pd.DataFrame, key: str, of: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([of(group) for _, group in payments.groupby(key)])


if __name__ == "__main__":
    inputs(pd.read_parquet(sys.argv[1])).to_parquet(sys.argv[2], index=False)
