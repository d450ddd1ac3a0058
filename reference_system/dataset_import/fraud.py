"""A file of card payments: its columns, and the payments and chargebacks that its rows are."""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from reference_system.dataset_import.file_shapes import ROW, FileShape
from reference_system.events import Topic
from reference_system.use_cases.fraud.events import CHARGEBACKS, TRANSACTIONS


def _named_already(rows: pa.Table) -> pa.Table:
    return rows


def _payments(rows: pa.Table, label_delay: timedelta) -> dict[Topic, pa.Table]:
    """A payment for each row, a chargeback a label delay later for each fraud; both have the payment's id."""
    rows = rows.append_column("schema_version", pa.array([1] * len(rows), pa.int64()))
    frauds = rows.filter(rows["is_fraud"])
    known = pc.add(frauds["event_timestamp"], pa.scalar(label_delay, pa.duration("us")))
    frauds = frauds.append_column("created_timestamp", known)
    frauds = frauds.append_column("chargeback_id", frauds["transaction_id"])
    return {
        TRANSACTIONS: rows.select([ROW, *TRANSACTIONS.record.__struct_fields__]),
        CHARGEBACKS: frauds.select([ROW, *CHARGEBACKS.record.__struct_fields__]),
    }


SHAPE = FileShape(
    use_case="fraud",
    what="transactions",
    fields={
        "transaction_id": "id",
        "event_timestamp": "moment",
        "customer_id": "id",
        "terminal_id": "id",
        "amount": "amount",
        "is_fraud": "flag",
    },
    event_id="transaction_id",
    identity="transaction_id",
    contradiction="other content",
    content=("event_timestamp", "customer_id", "terminal_id", "amount", "is_fraud"),
    entities=("customer_id", "terminal_id"),
    topics=(TRANSACTIONS, CHARGEBACKS),
    held="""
        SELECT t.transaction_id, t.event_timestamp, t.customer_id, t.terminal_id, t.amount,
            c.transaction_id IS NOT NULL AS is_fraud
        FROM transactions AS t LEFT JOIN chargebacks AS c USING (transaction_id)
    """,
    identified=_named_already,
    events=_payments,
)
