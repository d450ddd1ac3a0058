"""What the two endpoints do with a body: decode, score, answer, log; and let the other model see it, later.

In: the models that answer now, the readers, the clock. Out: routes for `serving/http/app.py`.
Invariant: one reference is taken at the start of a request, so an answer comes from one model version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from time import perf_counter
from typing import TypeVar

import msgspec

from reference_system.assignment import place_of
from reference_system.clock import Clock
from reference_system.events import PREDICTIONS, SHADOWS, Event, PredictionLogged, Topic
from reference_system.serving.api import (
    AnswerIdentity,
    FraudScoreRequest,
    RecommendationAnswer,
    RecommendationRequest,
    RequestRefused,
    decode_request,
    moment_asked,
)
from reference_system.serving.challengers.routing import (
    ChallengerRouting,
    RememberedReads,
    RoutedAnswer,
    Said,
)
from reference_system.serving.challengers.shadow import Shadow
from reference_system.serving.challengers.traffic import Challenger
from reference_system.serving.champions import Loaded
from reference_system.serving.feature_reads import ReadStates
from reference_system.serving.fraud import scoring as fraud_scoring
from reference_system.serving.fraud.scoring import FraudModel, ScoredPayment
from reference_system.serving.http.app import Endpoint, HttpAnswer
from reference_system.serving.prometheus_metrics import ServingMetrics
from reference_system.serving.recommendation import pages as recommending
from reference_system.serving.recommendation.catalogue import ServedCatalogue
from reference_system.serving.recommendation.pages import RankedPage
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY
from reference_system.use_cases.recommendation.events import EXPOSURES, ExposureLogged
from reference_system.use_cases.recommendation.features import VIEWER_ACTIVITY

FRAUD_PATH = "/v1/fraud/score"
RECOMMENDATIONS_PATH = "/v1/recommendations"
# What chance does to a page follows from the prediction's id alone: told again, it is the same page.
_EXPLORATION = "exploration"
_Found = TypeVar("_Found")


def _nobody() -> None:
    return None


@dataclass(slots=True, kw_only=True)
class Answering:
    """The endpoints and what they need; without challengers the champions answer alone, without a shadow unseen."""

    fraud: Callable[[], Loaded[FraudModel] | None]
    catalogue: Callable[[], ServedCatalogue | None]
    read: ReadStates
    clock: Clock
    new_id: Callable[[], str]
    log: Callable[[Topic, Event], None]
    metrics: ServingMetrics
    fraud_challenger: Callable[[], Challenger[FraudModel] | None] = _nobody
    ranking_challenger: Callable[[], Challenger[ServedCatalogue] | None] = _nobody
    shadow: Shadow = field(default_factory=Shadow)
    explored_places: int = 0

    def routes(self) -> dict[str, dict[str, Endpoint]]:
        """Path → method → endpoint."""
        fraud = msgspec.json.Decoder(FraudScoreRequest)
        recommendation = msgspec.json.Decoder(RecommendationRequest)
        return {
            FRAUD_PATH: {"POST": lambda body: self._score(decode_request(fraud, body))},
            RECOMMENDATIONS_PATH: {"POST": lambda body: self._recommend(decode_request(recommendation, body))},
        }

    def _score(self, request: FraudScoreRequest) -> HttpAnswer:
        started = perf_counter()
        loaded = self.fraud()
        if loaded is None:
            raise _not_ready("fraud")
        evaluation = self._evaluation(loaded.version, request.event_timestamp)
        moment = evaluation.moment
        inputs = fraud_scoring.readable_inputs(request, moment, self.read)
        answered = None
        if inputs is None:
            scored = fraud_scoring.score_by_rule(request.amount)
        else:
            routing = ChallengerRouting(
                use_case="fraud",
                version=loaded.version,
                champion=loaded.model,
                challenger=self.fraud_challenger(),
                score=lambda model: fraud_scoring.score_inputs(inputs, moment, model),
                is_valid=fraud_scoring.is_score,
                metrics=self.metrics.challengers,
            )
            answered = routing.answer(request.customer_id)
            scored, evaluation = answered.said.found, _said_by(evaluation, answered.said.version)
        answer = fraud_scoring.score_answer(request, scored, evaluation)
        self._count("fraud", CUSTOMER_ACTIVITY.name, answer.feature_age_seconds, degraded=answer.degraded)
        self.log(PREDICTIONS, fraud_scoring.score_record(request, answer, scored, latency_ms=_since(started)))

        def record(said: Said[ScoredPayment]) -> PredictionLogged:
            other = fraud_scoring.score_answer(request, said.found, _said_by(evaluation, said.version))
            return fraud_scoring.score_record(request, other, said.found, latency_ms=said.seconds * 1000.0)

        self._shadow("fraud", answered, record)
        return HttpAnswer(body=_encode(answer))

    def _recommend(self, request: RecommendationRequest) -> HttpAnswer:
        started = perf_counter()
        catalogue = self.catalogue()
        if catalogue is None:
            raise _not_ready("recommendation")
        evaluation = self._evaluation(catalogue.model.version, request.event_timestamp)
        moment = evaluation.moment
        draw = place_of(evaluation.prediction_id, _EXPLORATION) if self.explored_places else None
        challenger = self.ranking_challenger()
        reads = RememberedReads(self.read)
        routing = ChallengerRouting(
            use_case="recommendation",
            version=catalogue.model.version,
            champion=catalogue,
            challenger=challenger,
            score=lambda by: recommending.compose(request.viewer_id, request.k, moment, by, reads, draw=draw),
            is_valid=recommending.is_page,
            metrics=self.metrics.challengers,
        )
        answered = routing.answer(request.viewer_id)
        reads.seal()
        page, evaluation = answered.said.found, _said_by(evaluation, answered.said.version)
        answer = recommending.page_answer(request, page, evaluation)
        self._count("recommendation", VIEWER_ACTIVITY.name, answer.feature_age_seconds, degraded=answer.degraded)
        self.log(PREDICTIONS, recommending.page_record(answer, page, latency_ms=_since(started)))
        if challenger is not None:
            self._expose(challenger, answer)

        def record(said: Said[RankedPage]) -> PredictionLogged:
            other = recommending.page_answer(request, said.found, _said_by(evaluation, said.version))
            return recommending.page_record(other, said.found, latency_ms=said.seconds * 1000.0)

        self._shadow("recommendation", answered, record)
        return HttpAnswer(body=_encode(answer))

    def _shadow(
        self, use_case: str, answered: RoutedAnswer[_Found] | None, record: Callable[[Said[_Found]], PredictionLogged]
    ) -> None:
        """Let the other model see the request as well, later; nobody waits for it."""
        if answered is None or answered.shadow is None:
            return
        metrics, work, version = self.metrics.challengers, answered.shadow, answered.shadow_version

        def job() -> None:
            try:
                said = work()
                logged = None if said is None else record(said)
            except Exception:  # noqa: BLE001 - the caller has an answer; what fails here is counted
                logged = None
            if logged is None or logged.degraded:
                metrics.shadow(use_case, version, "failed")
                return
            self.log(SHADOWS, logged)
            metrics.shadow(use_case, version, "scored")

        if not self.shadow.add(job):
            metrics.shadow(use_case, version, "dropped")

    def _expose(self, challenger: Challenger[ServedCatalogue], answer: RecommendationAnswer) -> None:
        """While an experiment runs, say which arm the viewer is in and who really answered."""
        arm = challenger.arm_of(answer.viewer_id)
        if arm is None:
            return
        exposure = ExposureLogged(
            schema_version=1,
            event_timestamp=answer.event_timestamp,
            exposure_id=answer.prediction_id,
            experiment=challenger.plan.name,
            arm=arm,
            viewer_id=answer.viewer_id,
            prediction_id=answer.prediction_id,
            model_version=answer.model_version,
        )
        self.log(EXPOSURES, exposure)

    def _evaluation(self, version: str, asked: datetime | None) -> AnswerIdentity:
        now = self.clock.now()
        return AnswerIdentity(
            prediction_id=self.new_id(), model_version=version, moment=moment_asked(asked, now), now=now
        )

    def _count(self, use_case: str, view: str, age: float | None, *, degraded: bool) -> None:
        if degraded:
            self.metrics.degraded(use_case)
        if age is not None:
            self.metrics.used(view, age)


def _said_by(evaluation: AnswerIdentity, version: str) -> AnswerIdentity:
    return evaluation if evaluation.model_version == version else replace(evaluation, model_version=version)


_encode = msgspec.json.Encoder().encode


def _since(started: float) -> float:
    return (perf_counter() - started) * 1000.0


def _not_ready(use_case: str) -> RequestRefused:
    return RequestRefused(503, "not_ready", f"no verified model for {use_case} is loaded yet; see /readyz")
