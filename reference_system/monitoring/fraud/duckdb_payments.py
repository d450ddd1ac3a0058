"""Windows of payments: what monitoring compares, from the lake and from the feature tables."""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from reference_system.arrays import Floats, Micros
from reference_system.event_time import moment_of
from reference_system.lake.delta_lake import read
from reference_system.lake.duckdb_connection import connection
from reference_system.monitoring.duckdb_windows import AnswerSource, numbers_of, stride
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK, request_inputs
from reference_system.use_cases.fraud.model import NAME, SIGNATURE

# A few thousand rows a day are enough for ten bins, and bound the memory.
MAX_PAYMENTS = 80_000
_ONE_DAY = timedelta(days=1)

PAYMENT_ANSWERS = AnswerSource(
    use_case=NAME,
    topic=TRANSACTIONS,
    key="transaction_id",
    asked="true",
    columns=("transaction_id",),
    width=len(SIGNATURE),
    most=MAX_PAYMENTS,
)


def fraud_features(lake: Path, feature_tables: Path, start: datetime, end: datetime) -> tuple[Micros, Floats]:
    """The fraud model's inputs of the payments in [start, end) as training knows them: from the feature tables.

    Returns:
        Moments, shape (n,), and inputs, shape (n, 15); payments that the tables do not have are left out.
    """
    views = (CUSTOMER_ACTIVITY, TERMINAL_RISK)
    files = [_day_files(feature_tables / view.name, start, end) for view in views]
    if not all(files):
        return np.empty(0, np.int64), np.empty((0, 3 + sum(len(view.features) for view in views)))
    with connection(lake.parent) as duck:
        columns = ("transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp")
        duck.register("paid", read(lake, TRANSACTIONS, start=start, end=end, columns=columns))
        duck.execute("CREATE TEMP TABLE payments AS SELECT *, epoch_us(event_timestamp) AS t FROM paid")
        (count,) = duck.sql("SELECT count(*) FROM payments").fetchall()[0]
        names = ", ".join(f'"{name}"' for view in views for name in view.features)
        joins = " ".join(
            f"JOIN (SELECT *, epoch_us(event_timestamp) AS t FROM read_parquet({paths!r})) AS {view.name} "
            f"ON {view.name}.{view.entity} = payments.{view.entity} AND {view.name}.t = payments.t"
            for view, paths in zip(views, files, strict=True)
        )
        table = duck.sql(
            f"SELECT payments.t AS t, amount, {names} FROM payments {joins} "
            f"WHERE hash(transaction_id) % {stride(count, MAX_PAYMENTS)} = 0 ORDER BY t"
        ).to_arrow_table()
    times = numbers_of(table, "t").astype(np.int64)
    request = [
        request_inputs(amount, moment_of(time))
        for amount, time in zip(table["amount"].to_pylist(), times.tolist(), strict=True)
    ]
    stored = [numbers_of(table, name) for view in views for name in view.features]
    return times, np.column_stack([np.array(request).reshape(-1, 3), *stored])


def payments_between(lake: Path, start: datetime, end: datetime) -> tuple[Micros, Floats]:
    """The payments of [start, end): moments and amounts, shapes (n,)."""
    with connection(lake.parent) as duck:
        columns = ("event_timestamp", "amount")
        duck.register("paid", read(lake, TRANSACTIONS, start=start, end=end, columns=columns))
        table = duck.sql("SELECT epoch_us(event_timestamp) AS t, amount FROM paid ORDER BY t").to_arrow_table()
    return numbers_of(table, "t").astype(np.int64), numbers_of(table, "amount")


def _day_files(folder: Path, start: datetime, end: datetime) -> list[str]:
    """The view's files of the days that [start, end) touches, those that exist."""
    first = start.replace(hour=0, minute=0, second=0, microsecond=0)
    days: Iterable[datetime] = (first + i * _ONE_DAY for i in range((end - first) // _ONE_DAY + 1))
    paths = (folder / f"{day:%Y-%m-%d}.parquet" for day in days)
    return [str(path) for path in paths if path.exists()]
