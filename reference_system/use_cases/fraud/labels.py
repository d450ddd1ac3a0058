"""When the outcome of a payment is known.

A chargeback names a fraud. A payment without one is genuine once the label delay has passed; before that its label
is not mature and nobody may train on it or judge by it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

LABEL_DELAY_DAYS = 7
LABEL_DELAY = timedelta(days=LABEL_DELAY_DAYS)


def is_mature(event_timestamp: datetime, *, as_of: datetime) -> bool:
    """Whether the payment's label is final for our purposes at `as_of`."""
    return event_timestamp + LABEL_DELAY <= as_of
