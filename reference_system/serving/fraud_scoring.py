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

from reference_system.events import PredictionLogged
from reference_system.serving.api import Evaluation, FraudScoreAnswer, FraudScoreRequest
from reference_system.serving.feature_reads import FeaturesUnavailable, ReadStates
from reference_system.use_cases.fraud.features import (
    CUSTOMER_ACTIVITY,
    INPUTS,
    TERMINAL_RISK,
    model_inputs,
    own_row,
)
from reference_system.use_cases.fraud.policy import Decision, Thresholds, decide, decide_degraded, reasons
from reference_system.windows import MICROS_PER_SECOND, Floats, Tail, evaluate, micros, unpack_tail

Scorer = Callable[[NDArray[np.float32]], Floats]
_AMOUNT = CUSTOMER_ACTIVITY.columns.index("amount")


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudModel:
    """A verified model and what its policy needs."""

    version: str
    known_until: datetime  # the end of the data that it was trained on
    scorer: Scorer
    thresholds: Thresholds
    usual: Floats  # shape (15,): see `policy.reasons`


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPayment:
    """What came out for one payment; `score` and `inputs` are `None` where a rule decided."""

    score: float | None
    decision: Decision
    reasons: tuple[str, ...]
    inputs: Floats | None
    feature_age_seconds: float | None  # of the older state; None while one of the two does not exist yet


def score_payment(request: FraudScoreRequest, moment: datetime, model: FraudModel, read: ReadStates) -> ScoredPayment:
    """Score one payment at `moment`."""
    try:
        ((customer_state, customer_time),) = read(CUSTOMER_ACTIVITY, (request.customer_id,))
        ((terminal_state, terminal_time),) = read(TERMINAL_RISK, (request.terminal_id,))
        customer = unpack_tail(CUSTOMER_ACTIVITY, customer_state)
        terminal = unpack_tail(TERMINAL_RISK, terminal_state)
    except (FeaturesUnavailable, ValueError):  # ValueError: bytes that are no tail
        return _by_rule(request.amount)
    as_of = micros(moment)
    own = None if _holds(customer, as_of, request.amount) else own_row(request.amount)
    inputs = model_inputs(
        request.amount,
        moment,
        evaluate(CUSTOMER_ACTIVITY, customer, as_of, own),
        evaluate(TERMINAL_RISK, terminal, as_of),
    )
    score = float(model.scorer(inputs.astype(np.float32)[None, :])[0])
    return ScoredPayment(
        score=score,
        decision=decide(score, model.thresholds),
        reasons=reasons(inputs, model.usual, INPUTS),
        inputs=inputs,
        feature_age_seconds=_age(as_of, customer_time, terminal_time),
    )


def answer_of(request: FraudScoreRequest, scored: ScoredPayment, evaluation: Evaluation) -> FraudScoreAnswer:
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


def record_of(
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
        feature_age_seconds=scored.feature_age_seconds,
        degraded=answer.degraded,
        latency_ms=latency_ms,
    )


def _by_rule(amount: float) -> ScoredPayment:
    return ScoredPayment(
        score=None,
        decision=decide_degraded(amount),
        reasons=("the features could not be read: decided by the amount alone",),
        inputs=None,
        feature_age_seconds=None,
    )


def _holds(customer: Tail, as_of: int, amount: float) -> bool:
    """Whether the tail holds the payment itself: a retry after the transaction was ingested."""
    if not len(customer.times) or customer.times[-1] < as_of:
        return False
    first, last = np.searchsorted(customer.times, as_of, "left"), np.searchsorted(customer.times, as_of, "right")
    return bool((customer.values[first:last, _AMOUNT] == amount).any())


def _age(as_of: int, *times: int | None) -> float | None:
    known = [time for time in times if time is not None]
    return max(as_of - min(known), 0) / MICROS_PER_SECOND if len(known) == len(times) else None
