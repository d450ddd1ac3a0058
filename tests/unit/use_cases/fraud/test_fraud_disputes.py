"""What is known of disputes: the SQL says what the definition says, at every moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_system.use_cases.fraud.labels import disputes_query

START = datetime(2025, 3, 3, tzinfo=UTC)
HOUR = 3_600_000_000
FIRST = round(START.timestamp()) * 1_000_000
hours = st.integers(0, 6)
# (payment, chargeback, hour at which it was known)
disputes = st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("abc"), hours), max_size=8)


def table(rows):
    moments = [START + timedelta(hours=hour) for _, _, hour in rows]
    columns = {
        "transaction_id": pa.array([payment for payment, _, _ in rows], pa.string()),
        "chargeback_id": pa.array([payment + report for payment, report, _ in rows], pa.string()),
        "created_timestamp": pa.array(moments, pa.timestamp("us", tz="UTC")),
    }
    return pa.table(columns)


def is_fraud(reports, reversals, payment, hour):
    """By the definition: a chargeback is known that no known reversal takes back."""
    known, back = (
        {report for of, report, at in rows if of == payment and at <= hour} for rows in (reports, reversals)
    )
    return bool(known - back)


def found(reports, reversals, hour):
    """Payment → (since which hour, until which hour)."""
    with duckdb.connect() as duck:
        duck.register("chargebacks", table(reports))
        duck.register("reversals", table(reversals))
        duck.execute(f"CREATE VIEW disputed AS {disputes_query(FIRST + hour * HOUR)}")
        rows = duck.sql(
            "SELECT transaction_id, epoch_us(created_timestamp), epoch_us(withdrawn_timestamp) FROM disputed"
        ).fetchall()
    assert len({payment for payment, _, _ in rows}) == len(rows), "one row a payment"
    return {payment: tuple(t and (t - FIRST) // HOUR for t in times) for payment, *times in rows}


@settings(max_examples=100, deadline=None)
@given(reports=disputes, reversals=disputes, hour=hours)
def test_a_payment_is_a_fraud_while_a_chargeback_of_it_stands(reports, reversals, hour):
    rows = found(reports, reversals, hour)
    for payment in "xy":
        stood = [is_fraud(reports, reversals, payment, at) for at in range(hour + 1)]
        if not any(stood):
            assert payment not in rows
            continue
        last = max(at for at, each in enumerate(stood) if each)
        since = max((at for at in range(last) if not stood[at]), default=-1) + 1
        assert rows[payment] == (since, None if last == hour else last + 1)
