"""Payments and their labels, read from the lake with SQL.

Invariant: a dispute that was not known at the stated moment is no label.
"""
# ruff: noqa: S608 - the SQL is made of constants of this repository; no input from outside reaches it

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pyarrow as pa

from reference_system.event_time import micros
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.training.duckdb_events import TIME
from reference_system.training.temporal_split import Span
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS, TRANSACTIONS
from reference_system.use_cases.fraud.labels import DISPUTE_FIELDS, LABEL_DELAY, disputes_query


def labelled_payments(lake: Path, span: Span, *, known: datetime | None = None) -> pa.Table:
    """The payments of a window, with their labels.

    Args:
        lake: the lake's folder.
        span: the window.
        known: labels are those known then; by default when the window's last label is mature.

    Returns:
        customer_id, terminal_id, amount, time, label (1.0 for a fraud).
    """
    with connection(lake.parent) as duck:
        fields = ["transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp"]
        found = delta_lake.read(lake, TRANSACTIONS, start=span.start, end=span.end, columns=fields, counted_only=True)
        duck.register("payments", found)
        for name, topic in (("chargebacks", CHARGEBACKS), ("reversals", REVERSALS)):
            found = delta_lake.read(lake, topic, start=span.start, end=span.end, columns=DISPUTE_FIELDS)
            duck.register(name, found)
        known_micros = micros(span.end + LABEL_DELAY if known is None else known)
        query = f"""
            WITH frauds AS (FROM ({disputes_query(known_micros)}) WHERE withdrawn_timestamp IS NULL)
            SELECT customer_id, terminal_id, amount, {TIME},
                (frauds.transaction_id IS NOT NULL)::DOUBLE AS label
            FROM payments LEFT JOIN frauds USING (transaction_id) ORDER BY time, transaction_id
        """
        return duck.sql(query).to_arrow_table()
