"""Replay by use case: the requests, and the features from history.

In: an event, a reader of states. Out: the feature vector that is served at the event's time.
Invariant: payments use the function that the service calls for a request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from reference_system.errors import StateError
from reference_system.event_time import micros
from reference_system.events import Event, Topic
from reference_system.features.history.model_inputs import fraud_inputs, rating_inputs
from reference_system.serving.api import FraudScoreRequest
from reference_system.serving.feature_reads import ReadStates
from reference_system.serving.fraud_scoring import payment_inputs
from reference_system.use_cases.fraud.events import TRANSACTIONS, Transaction
from reference_system.use_cases.fraud.features import INPUTS
from reference_system.use_cases.fraud.features import VIEWS as PAYMENT_VIEWS
from reference_system.use_cases.recommendation.events import RATINGS
from reference_system.use_cases.recommendation.features import RATING_VIEWS
from reference_system.windows import WindowedView, evaluate_state


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCase:
    """One use case: the topic of the requests, the views they read, the served vector, the result from history."""

    asking: Topic
    views: tuple[WindowedView, ...]
    names: tuple[str, ...]
    serve: Callable[[Event, ReadStates], Sequence[float]]
    history: Callable[[Path, Path], pa.Table]


def case_of(use_case: str) -> ReplayCase:
    """The case of a use case."""
    return {"fraud": _PAYMENTS, "recommendation": _RATED}[use_case]


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


def _rating(event: Event, read: ReadStates) -> Sequence[float]:
    found = read(RATING_VIEWS, [getattr(event, view.entity) for view in RATING_VIEWS])
    moment = micros(event.event_timestamp)
    return [
        value
        for view, (state, _) in zip(RATING_VIEWS, found, strict=True)
        for value in evaluate_state(view, state, moment)
    ]


_PAYMENTS = ReplayCase(asking=TRANSACTIONS, views=PAYMENT_VIEWS, names=INPUTS, serve=_payment, history=fraud_inputs)
_RATED = ReplayCase(
    asking=RATINGS,
    views=RATING_VIEWS,
    names=tuple(name for view in RATING_VIEWS for name in view.features),
    serve=_rating,
    history=rating_inputs,
)
