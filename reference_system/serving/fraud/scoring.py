"""The fraud score: states → windows finished at the moment of the payment → model → decision.

In: a payment, a model, a reader of states. Out: a score with its decision, reasons and inputs.
Invariant: the payment's own row counts once, also when it is asked about again after it was ingested; a state that
cannot be read gives a degraded answer, never an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.event_time import MICROS_PER_SECOND, micros
from reference_system.events import PredictionLogged
from reference_system.serving.api import AnswerIdentity, FraudScoreAnswer, FraudScoreRequest
from reference_system.serving.feature_reads import FeaturesUnavailable, ReadStates
from reference_system.use_cases.fraud.features import (
    CUSTOMER_ACTIVITY,
    INPUTS,
    TERMINAL_RISK,
    model_inputs,
    own_row,
)
from reference_system.use_cases.fraud.policy import Decision, Thresholds, decide, decide_degraded, reasons
from reference_system.windows import evaluate_state, unpack_tail

FraudScorer = Callable[[NDArray[np.float32]], Floats]
_VIEWS = (CUSTOMER_ACTIVITY, TERMINAL_RISK)
_AMOUNT = CUSTOMER_ACTIVITY.columns.index("amount")


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudModel:
    """A verified model and what its policy needs."""

    version: str
    known_until: datetime  # the end of the data that it was trained on
    scorer: FraudScorer
    thresholds: Thresholds
    usual: Floats  # shape (15,): see `policy.reasons`


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentInputs:
    """The model's input row, shape (15,), and how new the two states were that it was made of (microseconds)."""

    values: Floats
    state_times: tuple[int | None, int | None]  # the customer's, the terminal's


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPayment:
    """What came out for one payment; `score` and `inputs` are `None` where a rule decided."""

    score: float | None
    decision: Decision
    reasons: tuple[str, ...]
    inputs: Floats | None
    state_times: tuple[int | None, int | None]  # of the customer's state and of the terminal's, microseconds
    feature_age_seconds: float | None  # of the older state; None while one of the two does not exist yet


def score_payment(request: FraudScoreRequest, moment: datetime, model: FraudModel, read: ReadStates) -> ScoredPayment:
    """Score one payment at `moment`."""
    inputs = readable_inputs(request, moment, read)
    return score_by_rule(request.amount) if inputs is None else score_inputs(inputs, moment, model)


def readable_inputs(request: FraudScoreRequest, moment: datetime, read: ReadStates) -> PaymentInputs | None:
    """The read path of one payment, or `None` where a rule must decide."""
    try:
        return payment_inputs(request, moment, read)
    except (FeaturesUnavailable, ValueError):  # ValueError: bytes that are no tail
        return None


def score_inputs(inputs: PaymentInputs, moment: datetime, model: FraudModel) -> ScoredPayment:
    """What the model and its policy make of an input row."""
    score = float(model.scorer(inputs.values.astype(np.float32)[None, :])[0])
    return ScoredPayment(
        score=score,
        decision=decide(score, model.thresholds),
        reasons=reasons(inputs.values, model.usual, INPUTS),
        inputs=inputs.values,
        state_times=inputs.state_times,
        feature_age_seconds=_age(micros(moment), *inputs.state_times),
    )


def payment_inputs(request: FraudScoreRequest, moment: datetime, read: ReadStates) -> PaymentInputs:
    """The read path of one payment: two states, their windows finished at `moment`.

    Raises:
        FeaturesUnavailable: if a state cannot be read.
        ValueError: if the bytes of a state are no tail.
    """
    (customer, customer_time), (terminal, terminal_time) = read(_VIEWS, (request.customer_id, request.terminal_id))
    as_of = micros(moment)
    own = None if _holds(customer, customer_time, as_of, request.amount) else own_row(request.amount)
    values = model_inputs(
        request.amount,
        moment,
        evaluate_state(CUSTOMER_ACTIVITY, customer, as_of, own),
        evaluate_state(TERMINAL_RISK, terminal, as_of),
    )
    return PaymentInputs(values=values, state_times=(customer_time, terminal_time))


def score_answer(request: FraudScoreRequest, scored: ScoredPayment, evaluation: AnswerIdentity) -> FraudScoreAnswer:
    """What the client reads."""
    return FraudScoreAnswer(
        prediction_id=evaluation.prediction_id,
        transaction_id=request.transaction_id,
        score=scored.score,
        decision=scored.decision,
        reasons=scored.reasons,
        model_version=evaluation.model_version,
        feature_age_seconds=scored.feature_age_seconds,
        degraded=scored.score is None,
        event_timestamp=evaluation.moment,
        created_timestamp=evaluation.now,
    )


def score_record(
    request: FraudScoreRequest, answer: FraudScoreAnswer, scored: ScoredPayment, *, latency_ms: float
) -> PredictionLogged:
    """What the prediction log keeps."""
    return PredictionLogged(
        schema_version=1,
        event_timestamp=answer.event_timestamp,
        created_timestamp=answer.created_timestamp,
        prediction_id=answer.prediction_id,
        use_case="fraud",
        request_id=request.transaction_id,
        entity_id=request.customer_id,
        model_version=answer.model_version,
        items=[],
        scores=[] if scored.score is None else [scored.score],
        decision=scored.decision,
        reasons=list(scored.reasons),
        features=[] if scored.inputs is None else scored.inputs.tolist(),
        entity_keys=[request.customer_id, request.terminal_id],
        state_micros=list(scored.state_times),
        catalogue_timestamp=None,
        feature_age_seconds=scored.feature_age_seconds,
        degraded=answer.degraded,
        latency_ms=latency_ms,
    )


def is_score(scored: ScoredPayment) -> bool:
    """Whether a model's answer is one: NaN and everything outside [0, 1] is none."""
    return scored.score is not None and 0.0 <= scored.score <= 1.0


def score_by_rule(amount: float) -> ScoredPayment:
    """What is decided without features."""
    return ScoredPayment(
        score=None,
        decision=decide_degraded(amount),
        reasons=("the features could not be read: decided by the amount alone",),
        inputs=None,
        state_times=(None, None),
        feature_age_seconds=None,
    )


def _holds(customer: bytes | None, newest: int | None, as_of: int, amount: float) -> bool:
    """Whether the tail holds the payment itself: a retry after the transaction was ingested."""
    if newest is None or newest < as_of:  # no row is newer than its state
        return False
    tail = unpack_tail(CUSTOMER_ACTIVITY, customer)
    first, last = np.searchsorted(tail.times, (as_of, as_of + 1))
    return bool((tail.values[first:last, _AMOUNT] == amount).any())


def _age(as_of: int, *times: int | None) -> float | None:
    known = [time for time in times if time is not None]
    return max(as_of - min(known), 0) / MICROS_PER_SECOND if len(known) == len(times) else None
