"""The label join of payments: what was predicted, compared with what turned out to be true.

In: the prediction log, payments and disputes, in the lake. Out: one row for each payment that was scored, with its
label.
Invariant: nothing that was created after `as_of` is used; a label that is not mature yet is given with the time of its
report, never as an outcome.

Answers without a payment (load tests, a person's trial) are dropped by the join.
"""
# ruff: noqa: S608 - the SQL is made of constants of this repository; no input from outside reaches it

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.events import PREDICTIONS
from reference_system.feedback.answers import ANSWERS, SLACK
from reference_system.lake.delta_lake import read
from reference_system.lake.duckdb_connection import connection
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS, TRANSACTIONS
from reference_system.use_cases.fraud.labels import DISPUTE_FIELDS, LABEL_DELAY, disputes_query

_MICRO = timedelta(microseconds=1)
_EVER = 2**62

_PAYMENTS = """
    WITH answers AS ({answers}),
    frauds AS (SELECT * FROM ({disputes}) WHERE withdrawn_timestamp IS NULL)
    SELECT answers.prediction_id, paid.transaction_id, paid.customer_id, paid.event_timestamp,
        answers.created_timestamp, answers.model_version, answers.scores[1] AS score, answers.decision,
        answers.degraded, (frauds.transaction_id IS NOT NULL)::TINYINT AS label,
        frauds.created_timestamp AS label_created_timestamp
    FROM answers
    JOIN transactions AS paid ON paid.transaction_id = answers.request_id
    LEFT JOIN frauds ON frauds.transaction_id = paid.transaction_id
    WHERE epoch_us(paid.event_timestamp) >= {start}
        AND epoch_us(paid.event_timestamp) < least({end}, {as_of} - {delay} + 1)
    ORDER BY paid.event_timestamp, paid.transaction_id
"""
_SHARES = """
    SELECT epoch_us(paid.event_timestamp) // {day} AS day, count(*) AS payments, count(frauds.transaction_id) AS frauds
    FROM transactions AS paid
    LEFT JOIN (SELECT * FROM ({disputes}) WHERE withdrawn_timestamp IS NULL) AS frauds USING (transaction_id)
    GROUP BY day HAVING (day + 1) * {day} <= {as_of} - {delay} AND day * {day} >= {start}
    ORDER BY day
"""
_REPORTS = """
    SELECT epoch_us(paid.event_timestamp) AS time, epoch_us(disputed.created_timestamp) AS reported,
        epoch_us(disputed.withdrawn_timestamp) AS withdrawn
    FROM transactions AS paid LEFT JOIN ({disputes}) AS disputed USING (transaction_id)
    ORDER BY time
"""
_ANSWERED = """
    WITH answers AS ({answers})
    SELECT epoch_us(paid.event_timestamp) AS time, epoch_us(disputed.created_timestamp) AS reported,
        epoch_us(disputed.withdrawn_timestamp) AS withdrawn,
        answers.model_version, answers.scores[1] AS score, answers.features
    FROM answers
    JOIN transactions AS paid ON paid.transaction_id = answers.request_id
    LEFT JOIN ({disputes}) AS disputed ON disputed.transaction_id = paid.transaction_id
    WHERE epoch_us(paid.event_timestamp) >= {start} AND epoch_us(paid.event_timestamp) < {as_of}
    ORDER BY time, paid.transaction_id
"""


def payment_outcomes(lake: Path, start: datetime, end: datetime, *, as_of: datetime) -> pa.Table:
    """Scored payments of [start, end) whose label is mature.

    Returns:
        `prediction_id, transaction_id, customer_id, event_timestamp, created_timestamp, model_version, score` (null
        where a rule answered), `decision, degraded, label` (1 is fraud), `label_created_timestamp`.
    """
    with connection(lake.parent) as duck:
        columns = ("prediction_id", "request_id", "use_case", "model_version", "scores", "decision", "degraded")
        answers = ("created_timestamp", *columns)
        duck.register("predictions", read(lake, PREDICTIONS, start=start - SLACK, end=end + SLACK, columns=answers))
        paid = ("transaction_id", "customer_id", "event_timestamp")
        duck.register("transactions", read(lake, TRANSACTIONS, start=start, end=end, columns=paid))
        _register_disputes(duck, lake, start, end)
        return duck.sql(
            _PAYMENTS.format(
                answers=ANSWERS.format(use_case="fraud", as_of=micros(as_of)),
                disputes=disputes_query(micros(as_of)),
                as_of=micros(as_of),
                start=micros(start),
                end=micros(end),
                delay=LABEL_DELAY // _MICRO,
            )
        ).to_arrow_table()


def fraud_shares(lake: Path, start: datetime, *, as_of: datetime) -> pa.Table:
    """All payments from `start` on, scored or not, by whole event days whose labels are mature.

    Returns:
        `day` (since 1970), `payments`, `frauds`.
    """
    with connection(lake.parent) as duck:
        paid = ("transaction_id", "event_timestamp")
        duck.register("transactions", read(lake, TRANSACTIONS, start=start, end=as_of, columns=paid))
        _register_disputes(duck, lake, start, as_of)
        return duck.sql(
            _SHARES.format(
                disputes=disputes_query(micros(as_of)),
                day=MICROS_PER_DAY,
                as_of=micros(as_of),
                start=micros(start),
                delay=LABEL_DELAY // _MICRO,
            )
        ).to_arrow_table()


def payment_reports(lake: Path, start: datetime, *, as_of: datetime) -> pa.Table:
    """All payments from `start` on, mature or not, with the moments between which they were known to be frauds.

    Returns:
        `time`, `reported` (null as long as nobody has complained), `withdrawn` (null as long as a complaint stands);
        microseconds since 1970. Of a payment that was a fraud twice the later time counts.
    """
    with connection(lake.parent) as duck:
        paid = ("transaction_id", "event_timestamp")
        duck.register("transactions", read(lake, TRANSACTIONS, start=start, end=as_of, columns=paid))
        _register_disputes(duck, lake, start, as_of)
        return duck.sql(_REPORTS.format(disputes=disputes_query(micros(as_of)))).to_arrow_table()


def answered_payments(lake: Path, start: datetime, *, as_of: datetime) -> pa.Table:
    """Payments from `start` on that were answered, mature or not, with the model's inputs as they were served.

    Returns:
        `time, reported, withdrawn` (as above), `model_version, score` (null where a rule answered), `features`.
    """
    with connection(lake.parent) as duck:
        columns = ("prediction_id", "request_id", "use_case", "model_version", "scores", "features")
        answers = ("created_timestamp", *columns)
        duck.register("predictions", read(lake, PREDICTIONS, start=start - SLACK, end=as_of, columns=answers))
        paid = ("transaction_id", "event_timestamp")
        duck.register("transactions", read(lake, TRANSACTIONS, start=start, end=as_of, columns=paid))
        _register_disputes(duck, lake, start, as_of)
        answers_sql = ANSWERS.format(use_case="fraud", as_of=micros(as_of))
        disputes = disputes_query(micros(as_of))
        sql = _ANSWERED.format(answers=answers_sql, disputes=disputes, as_of=micros(as_of), start=micros(start))
        return duck.sql(sql).to_arrow_table()


def dispute_times(lake: Path) -> pa.Table:
    """Each payment that was ever known to be a fraud, by all that is known today.

    Returns:
        `transaction_id, reported, withdrawn` (as above).
    """
    with connection(lake.parent) as duck:
        _register_disputes(duck, lake)
        return duck.sql(f"""
            SELECT transaction_id, epoch_us(created_timestamp) AS reported, epoch_us(withdrawn_timestamp) AS withdrawn
            FROM ({disputes_query(_EVER)})
        """).to_arrow_table()


def _register_disputes(
    duck: duckdb.DuckDBPyConnection, lake: Path, start: datetime | None = None, end: datetime | None = None
) -> None:
    """Make the disputes of the payments of [start, end) available: their event time is the payment's."""
    for name, topic in (("chargebacks", CHARGEBACKS), ("reversals", REVERSALS)):
        duck.register(name, read(lake, topic, start=start, end=end, columns=DISPUTE_FIELDS))
