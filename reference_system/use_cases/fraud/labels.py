"""When the outcome of a payment is known.

A payment is a fraud at a moment at which a chargeback of it is known that no known reversal takes back. A payment
without one is genuine once the label delay has passed; before that its label is not mature and nobody may train on it
or judge by it.
"""
# ruff: noqa: S608 - the SQL is made of a number; no input from outside reaches it

from __future__ import annotations

from datetime import datetime, timedelta

LABEL_DELAY_DAYS = 7
LABEL_DELAY = timedelta(days=LABEL_DELAY_DAYS)
# The fields of chargebacks and of reversals that say what is disputed and since when.
DISPUTE_FIELDS = ("transaction_id", "chargeback_id", "created_timestamp")


def is_mature(event_timestamp: datetime, *, as_of: datetime) -> bool:
    """Whether the payment's label is final for our purposes at `as_of`."""
    return event_timestamp + LABEL_DELAY <= as_of


def disputes_query(as_of: int) -> str:
    """SQL for each payment that is a fraud, or was one, by what was known at `as_of` (microseconds).

    It reads `DISPUTE_FIELDS` of the tables `chargebacks` and `reversals`, and has one row a payment: `transaction_id`,
    `created_timestamp` (the moment since which it is a fraud without a break) and `withdrawn_timestamp` (the one from
    which it is none any more; null while it is one).
    """
    return f"""
        SELECT transaction_id, max(known) FILTER (known > coalesce(stood_until, '-infinity')) AS created_timestamp,
            nullif(max(until), 'infinity') AS withdrawn_timestamp
        FROM (
            SELECT *, max(until) OVER (
                PARTITION BY transaction_id ORDER BY known, until ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS stood_until
            FROM (
                SELECT transaction_id, reported.created_timestamp AS known,
                    coalesce(min(reversed.created_timestamp), 'infinity'::TIMESTAMPTZ) AS until
                FROM (FROM chargebacks WHERE epoch_us(created_timestamp) <= {as_of}) AS reported
                LEFT JOIN (FROM reversals WHERE epoch_us(created_timestamp) <= {as_of}) AS reversed
                USING (transaction_id, chargeback_id)
                GROUP BY transaction_id, chargeback_id, known
            ) WHERE until > known
        ) GROUP BY transaction_id
    """
