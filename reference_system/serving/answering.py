"""What the two endpoints do with a body: decode, score, answer, log.

In: the models that answer now, the readers, the clock. Out: routes for `http_app.py`.
Invariant: one reference is taken at the start of a request, so an answer comes from one model version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter

import msgspec

from reference_system.clock import Clock
from reference_system.events import PredictionLogged
from reference_system.serving import fraud_scoring, recommending
from reference_system.serving.api import (
    Evaluation,
    FraudScoreRequest,
    RecommendationRequest,
    RequestRefused,
    decode_request,
    moment_asked,
)
from reference_system.serving.catalogue import Catalogue
from reference_system.serving.champions import Loaded
from reference_system.serving.feature_reads import ReadStates
from reference_system.serving.fraud_scoring import FraudModel
from reference_system.serving.http_app import Answer, Endpoint
from reference_system.serving.prometheus_metrics import ServingMetrics
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY
from reference_system.use_cases.recommendation.features import VIEWER_ACTIVITY

FRAUD_PATH = "/v1/fraud/score"
RECOMMENDATIONS_PATH = "/v1/recommendations"


@dataclass(slots=True, kw_only=True)
class Answering:
    """The endpoints and what they need."""

    fraud: Callable[[], Loaded[FraudModel] | None]
    catalogue: Callable[[], Catalogue | None]
    read: ReadStates
    clock: Clock
    new_id: Callable[[], str]
    log: Callable[[PredictionLogged], None]
    metrics: ServingMetrics

    def routes(self) -> dict[str, dict[str, Endpoint]]:
        """Path → method → endpoint."""
        fraud = msgspec.json.Decoder(FraudScoreRequest)
        recommendation = msgspec.json.Decoder(RecommendationRequest)
        return {
            FRAUD_PATH: {"POST": lambda body: self._score(decode_request(fraud, body))},
            RECOMMENDATIONS_PATH: {"POST": lambda body: self._recommend(decode_request(recommendation, body))},
        }

    def _score(self, request: FraudScoreRequest) -> Answer:
        started = perf_counter()
        loaded = self.fraud()
        if loaded is None:
            raise _not_ready("fraud")
        evaluation = self._evaluation(loaded.version, request.event_timestamp)
        scored = fraud_scoring.score_payment(request, evaluation.moment, loaded.model, self.read)
        answer = fraud_scoring.answer_of(request, scored, evaluation)
        self._count("fraud", CUSTOMER_ACTIVITY.name, answer.feature_age_seconds, degraded=answer.degraded)
        self.log(fraud_scoring.record_of(request, answer, scored, latency_ms=_since(started)))
        return Answer(body=_encode(answer))

    def _recommend(self, request: RecommendationRequest) -> Answer:
        started = perf_counter()
        catalogue = self.catalogue()
        if catalogue is None:
            raise _not_ready("recommendation")
        evaluation = self._evaluation(catalogue.model.version, request.event_timestamp)
        page = recommending.compose(request.viewer_id, request.k, evaluation.moment, catalogue, self.read)
        answer = recommending.answer_of(request, page, evaluation)
        self._count("recommendation", VIEWER_ACTIVITY.name, answer.feature_age_seconds, degraded=answer.degraded)
        self.log(recommending.record_of(answer, page, latency_ms=_since(started)))
        return Answer(body=_encode(answer))

    def _evaluation(self, version: str, asked: datetime | None) -> Evaluation:
        now = self.clock.now()
        return Evaluation(prediction_id=self.new_id(), model_version=version, moment=moment_asked(asked, now), now=now)

    def _count(self, use_case: str, view: str, age: float | None, *, degraded: bool) -> None:
        if degraded:
            self.metrics.degraded(use_case)
        if age is not None:
            self.metrics.used(view, age)


_encode = msgspec.json.Encoder().encode


def _since(started: float) -> float:
    return (perf_counter() - started) * 1000.0


def _not_ready(use_case: str) -> RequestRefused:
    return RequestRefused(503, "not_ready", f"no verified model for {use_case} is loaded yet; see /readyz")
