"""What happens in the world of card payments."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from reference_system.event_shapes import Id
from reference_system.events import Event, Moment, Topic

Amount = Annotated[float, Meta(ge=-1e12, le=1e12)]  # in any currency; below 0 it is a refund


class Transaction(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A card payment at a terminal."""

    transaction_id: Id
    customer_id: Id
    terminal_id: Id
    amount: Amount


class ChargebackReported(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The customer disputed a payment: the label, late.

    `event_timestamp` is the payment's moment, `created_timestamp` the moment from which we could know.
    """

    chargeback_id: Id
    transaction_id: Id
    customer_id: Id
    terminal_id: Id
    created_timestamp: Moment

    def __post_init__(self) -> None:
        """Refuse a dispute that is older than its payment."""
        if self.created_timestamp < self.event_timestamp:
            raise ValueError("created_timestamp lies before event_timestamp: a payment is disputed after it was made")


class ChargebackReversed(Event, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A chargeback was taken back: from `created_timestamp` on it no longer says that the payment was a fraud.

    `event_timestamp` is the payment's moment, as in the chargeback. A chargeback is reversed once; who disputes the
    payment again does so under another `chargeback_id`.
    """

    chargeback_id: Id
    transaction_id: Id
    customer_id: Id
    terminal_id: Id
    created_timestamp: Moment

    def __post_init__(self) -> None:
        """Refuse a reversal that is older than the payment."""
        if self.created_timestamp < self.event_timestamp:
            raise ValueError("created_timestamp lies before event_timestamp: a dispute is reversed after the payment")


TRANSACTIONS = Topic(name="transactions", record=Transaction, key="customer_id", event_id="transaction_id")
CHARGEBACKS = Topic(name="chargebacks", record=ChargebackReported, key="terminal_id", event_id="chargeback_id")
# Keyed like chargebacks, so that the task that has a dispute has its reversal.
REVERSALS = Topic(name="chargeback-reversals", record=ChargebackReversed, key="terminal_id", event_id="chargeback_id")
TOPICS = (TRANSACTIONS, CHARGEBACKS, REVERSALS)
