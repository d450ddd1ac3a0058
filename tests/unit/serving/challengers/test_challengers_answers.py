"""Two models before one request: who answers, what is logged, and what the caller never sees."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import count

import msgspec
import numpy as np
import pytest
from local_broker import NOON
from served_models import States, fraud_model_for_tests, ranker_model_for_tests

from reference_system.clock import FixedClock
from reference_system.events import decode, encode
from reference_system.serving.answering import FRAUD_PATH, RECOMMENDATIONS_PATH, Answering
from reference_system.serving.challengers.breaker import Breaker
from reference_system.serving.challengers.shadow import Shadow
from reference_system.serving.challengers.traffic import Challenger, ChallengerPlan
from reference_system.serving.champions import Loaded
from reference_system.serving.feature_reads import FeaturesUnavailable
from reference_system.serving.prediction_log.kafka_log import OUTCOMES
from reference_system.serving.prometheus_metrics import ServingMetrics
from reference_system.serving.recommendation.catalogue import refresh_catalogue
from reference_system.use_cases import topic_named

PAYMENT = {"transaction_id": "x1", "customer_id": "c1", "terminal_id": "t1", "amount": 12.5}


class Service:
    """The endpoints with a challenger that a test plans, and a shadow that works when the test says so."""

    def __init__(self):
        self.logged = []
        self.states = States()
        self.reads = 0
        self.fraud = self.ranking = None
        self.shadow = Shadow()
        self.metrics = ServingMetrics(
            endpoints=(FRAUD_PATH, RECOMMENDATIONS_PATH),
            views=("customer_activity", "viewer_activity"),
            log_outcomes=OUTCOMES,
        )
        champion = Loaded(version="3", model=fraud_model_for_tests("3"))
        catalogue = refresh_catalogue(ranker_model_for_tests("4"), self.states, NOON)
        numbers = count(1)
        self.routes = Answering(
            fraud=lambda: champion,
            catalogue=lambda: catalogue,
            read=self._read,
            clock=FixedClock(NOON),
            new_id=lambda: f"p{next(numbers)}",
            log=lambda topic, record: self.logged.append((topic.name, record)),
            metrics=self.metrics,
            fraud_challenger=lambda: self.fraud,
            ranking_challenger=lambda: self.ranking,
            shadow=self.shadow,
        ).routes()

    def _read(self, view, keys):
        self.reads += 1
        return self.states(view, keys)

    def plan(self, mode, *, share=0.0, fraud=None, salt="s"):
        """Version 8 beside version 3, version 9 beside version 4."""
        plan = ChallengerPlan(mode=mode, version="8", name="test-8", share=share, salt=salt)
        model = fraud or fraud_model_for_tests("8")
        self.fraud = Challenger(plan=plan, model=model, breaker=Breaker(1.0, lambda _: None))
        catalogue = refresh_catalogue(ranker_model_for_tests("9"), self.states, NOON)
        self.ranking = Challenger(
            plan=replace(plan, version="9"), model=catalogue, breaker=Breaker(1.0, lambda _: None)
        )

    def score(self, **fields):
        return json.loads(self.post(FRAUD_PATH, {**PAYMENT, **fields}))

    def recommend(self, viewer="w1"):
        return json.loads(self.post(RECOMMENDATIONS_PATH, {"viewer_id": viewer}))

    def post(self, path, body):
        return self.routes[path]["POST"](json.dumps(body).encode()).body

    def cast_shadows(self):
        self.shadow.work(rest=lambda _: None)

    def of(self, topic):
        return [record for name, record in self.logged if name == topic]

    def metric(self, line):
        found = [row for row in self.metrics.text().decode().splitlines() if row.startswith(line)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


@pytest.fixture
def service():
    return Service()


@pytest.mark.parametrize(
    ("path", "body"), [(FRAUD_PATH, PAYMENT), (RECOMMENDATIONS_PATH, {"viewer_id": "w1", "k": 7})]
)
def test_a_shadow_changes_no_byte_of_the_answer(service, path, body):
    alone = service.post(path, body)
    other = Service()
    other.plan("shadow")
    assert other.post(path, body) == alone
    assert other.of("predictions") == [replace_latency(record, other) for record in service.of("predictions")]
    assert not other.of("shadow-predictions")
    other.cast_shadows()
    (shadow,) = other.of("shadow-predictions")
    assert shadow.prediction_id == json.loads(alone)["prediction_id"]


def replace_latency(record, other):
    return msgspec.structs.replace(record, latency_ms=other.of("predictions")[0].latency_ms)


def test_the_shadow_scores_the_same_inputs_and_is_a_valid_event(service):
    service.plan("shadow")
    service.score()
    service.recommend()
    reads = service.reads
    service.cast_shadows()
    assert service.reads == reads
    for answered, shadow in zip(service.of("predictions"), service.of("shadow-predictions"), strict=True):
        assert shadow.prediction_id == answered.prediction_id
        assert (answered.model_version, shadow.model_version) in {("3", "8"), ("4", "9")}
        assert (shadow.request_id, shadow.entity_id) == (answered.request_id, answered.entity_id)
        assert shadow.scores != answered.scores
        assert decode(topic_named("shadow-predictions"), encode(shadow), now=NOON) == shadow
    assert service.of("shadow-predictions")[0].features == service.of("predictions")[0].features
    assert service.metric('workbook_shadow_total{outcome="scored",use_case="fraud",version="8"}') == 1.0


def test_in_a_canary_whoever_did_not_answer_is_the_shadow(service):
    service.plan("canary", share=0.4)
    answers = [service.score(customer_id=f"c{n}", transaction_id=f"x{n}") for n in range(200)]
    service.cast_shadows()
    by = Counter(answer["model_version"] for answer in answers)
    assert set(by) == {"3", "8"}
    assert all(
        answer["model_version"] == ("8" if service.fraud.answers(f"c{n}") else "3") for n, answer in enumerate(answers)
    )
    pairs = {record.prediction_id: record.model_version for record in service.of("shadow-predictions")}
    assert all({answer["model_version"], pairs[answer["prediction_id"]]} == {"3", "8"} for answer in answers)
    assert service.metric('workbook_answers_total{role="challenger",use_case="fraud",version="8"}') == by["8"]
    assert service.metric('workbook_answers_total{role="champion",use_case="fraud",version="3"}') == by["3"]


def test_pages_of_the_canary_are_the_challengers_and_carry_its_version(service):
    service.plan("canary", share=1.0)
    page = service.recommend()
    service.cast_shadows()
    (answered,), (shadow,) = service.of("predictions"), service.of("shadow-predictions")
    assert page["model_version"] == answered.model_version == "9"
    assert shadow.model_version == "4"
    assert answered.items == [item["video_id"] for item in page["items"]]


def broken(scores):
    def scorer(rows):
        if isinstance(scores, Exception):
            raise scores
        return np.full(len(rows), scores)

    return replace(fraud_model_for_tests("8"), scorer=scorer)


@pytest.mark.parametrize("scores", [ValueError("no"), np.nan, np.inf, 1.5, -0.1])
def test_a_challenger_that_fails_is_replaced_by_the_champion_in_the_same_request(service, scores):
    right = [service.score(transaction_id=f"x{n}") for n in range(10)]
    service.plan("canary", share=1.0, fraud=broken(scores))
    answers = [service.score(transaction_id=f"x{n}") for n in range(10)]
    kept = ("score", "decision", "reasons", "model_version")
    assert [[a[name] for name in kept] for a in answers] == [[a[name] for name in kept] for a in right]
    # The third error opens the breaker: it was asked three times and never again.
    assert service.metric('workbook_challenger_errors_total{use_case="fraud",version="8"}') == 3.0
    assert service.fraud.breaker.reason.startswith("errors")


def test_a_challenger_that_fails_in_the_shadow_is_counted_and_stopped(service):
    service.plan("shadow", fraud=broken(np.nan))
    for n in range(10):
        assert service.score(transaction_id=f"x{n}")["model_version"] == "3"
        service.cast_shadows()
    assert not service.of("shadow-predictions")
    assert service.metric('workbook_challenger_errors_total{use_case="fraud",version="8"}') == 3.0


def test_a_slow_challenger_is_stopped_within_a_few_requests(service):
    def slow(rows):
        found = np.zeros(len(rows))
        for _ in range(200):
            found = found + np.linalg.norm(np.ones((60, 60)) @ np.ones((60, 60)))
        return np.full(len(rows), 0.5)

    service.plan("canary", share=1.0, fraud=replace(fraud_model_for_tests("8"), scorer=slow))
    service.fraud = replace(service.fraud, breaker=Breaker(0.0005, lambda _: None))
    versions = [service.score(transaction_id=f"x{n}")["model_version"] for n in range(6)]
    assert versions == ["8", "8", "8", "3", "3", "3"]
    assert service.fraud.breaker.reason.startswith("slow")


def test_while_features_are_away_a_rule_answers_and_nobody_shadows(service):
    def down(_view, _keys):
        raise FeaturesUnavailable("down")

    service.plan("canary", share=1.0)
    service.states = down
    assert service.score()["degraded"]
    assert service.recommend()["degraded"]
    service.cast_shadows()
    assert not service.of("shadow-predictions")
    assert service.metric("workbook_challenger_errors_total") == 0.0


def test_in_an_experiment_every_page_is_an_exposure_and_there_is_no_shadow(service):
    service.plan("experiment", share=0.5)
    pages = [service.recommend(f"w{n}") for n in range(60)]
    service.cast_shadows()
    exposures = service.of("exposures")
    assert not service.of("shadow-predictions")
    for page, exposure in zip(pages, exposures, strict=True):
        assert (exposure.experiment, exposure.viewer_id) == ("test-8", page["viewer_id"])
        assert exposure.prediction_id == page["prediction_id"]
        assert exposure.model_version == page["model_version"] == ("9" if exposure.arm == "treatment" else "4")
    assert {exposure.arm for exposure in exposures} == {"control", "treatment"}


def test_after_the_breaker_opens_the_arm_stays_and_the_version_says_who_answered(service):
    service.plan("experiment", share=1.0)
    for _ in range(3):
        service.ranking.breaker.failed()
    service.recommend()
    (exposure,) = service.of("exposures")
    assert (exposure.arm, exposure.model_version) == ("treatment", "4")


def test_a_shadow_that_cannot_keep_up_drops_and_counts(service, monkeypatch):
    monkeypatch.setattr("reference_system.serving.challengers.shadow._MAX_WAITING", 5)
    service.plan("shadow")
    for n in range(8):
        service.score(transaction_id=f"x{n}")
    service.cast_shadows()
    assert len(service.of("predictions")) == 8
    assert len(service.of("shadow-predictions")) == 5
    assert service.metric('workbook_shadow_total{outcome="dropped",use_case="fraud",version="8"}') == 3.0


def test_the_shadow_rests_as_long_as_it_worked():
    shadow = Shadow()
    rests = []
    for _ in range(3):
        shadow.add(lambda: sum(range(200_000)))
    shadow.work(rest=rests.append)
    assert len(rests) == 3
    assert all(rest > 0.0002 for rest in rests)
