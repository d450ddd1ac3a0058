"""Replay of payments, requested through the function that the service calls for a request."""

from __future__ import annotations

from collections.abc import Sequence

from reference_system.errors import StateError
from reference_system.events import Event
from reference_system.features.history.fraud_inputs import fraud_inputs
from reference_system.proofs.replay.case import ReplayCase
from reference_system.serving.api import FraudScoreRequest
from reference_system.serving.feature_reads import ReadStates
from reference_system.serving.fraud.scoring import payment_inputs
from reference_system.use_cases.fraud.events import TRANSACTIONS, Transaction
from reference_system.use_cases.fraud.features import INPUTS, VIEWS


def _payment(event: Event, read: ReadStates) -> Sequence[float]:
    if not isinstance(event, Transaction):
        raise StateError(f"a payment is expected, not {type(event).__name__}")
    request = FraudScoreRequest(
        transaction_id=event.transaction_id,
        customer_id=event.customer_id,
        terminal_id=event.terminal_id,
        amount=event.amount,
        event_timestamp=event.event_timestamp,
    )
    found: list[float] = payment_inputs(request, event.event_timestamp, read).values.tolist()
    return found


CASE = ReplayCase(asking=TRANSACTIONS, views=VIEWS, names=INPUTS, serve=_payment, history=fraud_inputs)
