"""The real-time service as a process: real BentoML, Kafka and Feast, and what a reader does to them."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import msgspec
import numpy as np
import psutil
import pytest
from kafka import KafkaConsumer
from kafka.structs import TopicPartition
from local_broker import BLOCK_SIZE, NOON, Broker, small_settings, stop
from sample_events import example
from served_models import write_fraud_bundle, write_recommendation_bundle
from tiny_models import mend_digests

from reference_system.clock import Heartbeat, wall_seconds, write_heartbeat
from reference_system.event_time import micros
from reference_system.events import PREDICTIONS, SHADOWS, Event, PredictionLogged, Topic
from reference_system.features.feast.store import apply, open_store, write_states
from reference_system.paths import StatePaths
from reference_system.proofs.bad_models.bundle_damages import flipped_in_arrays
from reference_system.registry.bundles.bundle import set_current
from reference_system.registry.traffic import TrafficPlan, clear_plan, write_plan
from reference_system.serving.answering import FRAUD_PATH, RECOMMENDATIONS_PATH
from reference_system.serving.bentoml_service import new_housekeeping, new_metrics
from reference_system.serving.prediction_log.kafka_log import PredictionLog
from reference_system.serving.prediction_log.spool import Spool
from reference_system.settings import Settings
from reference_system.stack.environment import child_environment
from reference_system.stack.kafka.topics import ensure_topics
from reference_system.stack.services import service_named
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.events import EXPOSURES
from reference_system.windows import empty_tail, extend

WAIT_SECONDS = 60.0


@dataclass(slots=True)
class Running:
    """A service process and a client of it."""

    settings: Settings
    process: subprocess.Popen[bytes]
    client: httpx.Client
    answers: list[dict] = field(default_factory=list)

    @property
    def paths(self) -> StatePaths:
        return StatePaths(self.settings.state_dir)

    def score(self, number: int = 0, **fields) -> dict:
        payment = {"transaction_id": f"x{number}", "customer_id": "c1", "terminal_id": "t1", "amount": 30.0, **fields}
        answer = self.client.post(FRAUD_PATH, json=payment)
        answer.raise_for_status()
        self.answers.append(answer.json())
        return answer.json()

    def recommend(self, **fields) -> dict:
        answer = self.client.post(RECOMMENDATIONS_PATH, json={"viewer_id": "w1", **fields})
        answer.raise_for_status()
        self.answers.append(answer.json())
        return answer.json()

    def metric(self, line: str) -> float:
        found = [row for row in self.client.get("/metrics").text.splitlines() if row.startswith(line)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0


def until(holds, what: str):
    """Wait for something that another process does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            found = holds()
            if found:
                return found
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {WAIT_SECONDS} s")


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Running]:
    """The service as supervisord starts it, ready; its log is shown if the test fails."""
    log = settings.state_dir / "serving.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            service_named(settings, "serving").command,
            env=child_environment(settings),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        with httpx.Client(base_url=settings.url("serving"), timeout=30.0) as client:
            until(lambda: process.poll() is None and client.get("/readyz").status_code == 200, "readiness")
            yield Running(settings, process, client)
    except BaseException:
        print(log.read_text(errors="replace")[-6000:])  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        stop(process)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def make_features(settings: Settings) -> None:
    """A feature store that knows one customer."""
    store = open_store(StatePaths(settings.state_dir))
    apply(store)
    width = len(CUSTOMER_ACTIVITY.columns)
    moment = micros(NOON - timedelta(hours=1))
    tail = extend(CUSTOMER_ACTIVITY, empty_tail(CUSTOMER_ACTIVITY), *map(_array, ([moment], [[20.0, 1.0][:width]])))
    write_states(store, CUSTOMER_ACTIVITY, [("c1", moment, 0, tail.pack())])
    write_states(store, TERMINAL_RISK, [("t1", moment, 0, empty_tail(TERMINAL_RISK).pack())])


def _array(values):
    import numpy as np

    return np.array(values)


def make_state(settings: Settings) -> None:
    """Bundles and a clock that stands at noon."""
    paths = StatePaths(settings.state_dir)
    write_fraud_bundle(paths.bundles)
    write_recommendation_bundle(paths.bundles)
    write_heartbeat(paths.clock, Heartbeat(event_time=NOON, wall_seconds=wall_seconds(), speed=0.0))


def plan_challenger(settings: Settings, use_case: str, mode: str, *, share: float = 0.0) -> None:
    """Version 2 beside version 1."""
    root = StatePaths(settings.state_dir).bundles
    (write_fraud_bundle if use_case == "fraud" else write_recommendation_bundle)(root, "2")
    set_current(root, use_case, "1")
    plan = TrafficPlan(use_case=use_case, mode=mode, version="2", name=f"{mode}-2", share=share, salt="s", since=NOON)
    write_plan(root, plan)


def logged(bootstrap: str, topic: Topic = PREDICTIONS) -> list[Event]:
    """Everything in the topic."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    try:
        places = [TopicPartition(topic.name, n) for n in consumer.partitions_for_topic(topic.name)]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        consumer.seek_to_beginning(*places)
        found = []
        while any(consumer.position(place) < end for place, end in ends.items()):
            for records in consumer.poll(timeout_ms=200).values():
                found += [msgspec.json.decode(record.value, type=topic.record) for record in records]
        return found
    finally:
        consumer.close(autocommit=False)


@pytest.fixture(scope="module")
def service(broker: Broker, tmp_path_factory, port_offset) -> Iterator[Running]:
    settings = small_settings(tmp_path_factory.mktemp("serving") / "state", port_offset)
    names = [PREDICTIONS.name, PREDICTIONS.dead_letter, SHADOWS.name, EXPOSURES.name]
    ensure_topics(broker.bootstrap, names, settings.kafka_partitions)
    make_state(settings)
    make_features(settings)
    with running(settings) as found:
        yield found


@pytest.fixture
def version_one(service) -> Iterator[None]:
    yield
    for use_case in ("fraud", "recommendation"):
        set_current(service.paths.bundles, use_case, "1")
    until(lambda: service.score()["model_version"] == service.recommend()["model_version"] == "1", "version 1")


def test_an_answer_and_its_log_record_say_the_same(service, broker):
    scored = service.score(1)
    page = service.recommend(k=4)
    ids = {scored["prediction_id"], page["prediction_id"]}

    def both():
        return [record for record in logged(broker.bootstrap) if record.prediction_id in ids]

    records = {record.use_case: record for record in until(lambda: len(both()) == 2 and both(), "both records")}
    assert not scored["degraded"]
    assert records["fraud"].scores == [scored["score"]]
    assert records["fraud"].request_id == "x1"
    assert len(records["fraud"].features) == 15
    assert scored["feature_age_seconds"] == records["fraud"].feature_age_seconds == 3600.0
    assert records["recommendation"].items == [item["video_id"] for item in page["items"]]
    assert records["recommendation"].event_timestamp == NOON


@pytest.mark.usefixtures("version_one")
def test_a_new_champion_answers_without_a_restart(service):
    write_fraud_bundle(service.paths.bundles, "2")
    write_recommendation_bundle(service.paths.bundles, "2", videos=30)
    until(lambda: service.score()["model_version"] == "2", "the new fraud model")
    until(lambda: service.recommend()["model_version"] == "2", "the new ranker")
    assert service.metric('workbook_model_info{use_case="fraud",version="2"}') == 1.0


@pytest.mark.usefixtures("version_one")
def test_a_corrupt_champion_is_refused_and_the_old_one_answers(service):
    refused = service.metric('workbook_bundles_refused_total{use_case="fraud"}')
    folder = write_fraud_bundle(service.paths.bundles, "9")
    set_current(service.paths.bundles, "fraud", "1")
    model = folder / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"!")
    set_current(service.paths.bundles, "fraud", "9")
    until(lambda: service.metric('workbook_bundles_refused_total{use_case="fraud"}') > refused, "the refusal")
    assert service.score()["model_version"] == "1"
    assert service.client.get("/readyz").status_code == 200


def test_a_challenger_comes_and_goes_with_its_plan_and_what_it_says_is_logged(service, broker):
    bundles = service.paths.bundles
    plan_challenger(service.settings, "fraud", "canary", share=0.5)
    plan_challenger(service.settings, "recommendation", "experiment", share=1.0)
    for mode, use_case in (("canary", "fraud"), ("experiment", "recommendation")):
        beside = f'workbook_challenger_info{{mode="{mode}",use_case="{use_case}",version="2"}}'
        until(lambda line=beside: service.metric(line), "the challenger")
    champion = 'workbook_model_info{use_case="recommendation",version="1"}'
    until(lambda: service.metric(champion) and service.recommend()["model_version"] == "2", "the treatment's page")
    ranked = service.recommend()
    scored = [service.score(100 + n, customer_id=f"k{n}") for n in range(12)]
    assert {each["model_version"] for each in scored} == {"1", "2"}

    def paired():
        shadows = {each.prediction_id: each.model_version for each in logged(broker.bootstrap, SHADOWS)}
        return all({each["model_version"], shadows.get(each["prediction_id"])} == {"1", "2"} for each in scored)

    until(paired, "every answer's shadow")
    exposures = {each.prediction_id: each for each in logged(broker.bootstrap, EXPOSURES)}
    exposure = exposures[ranked["prediction_id"]]
    assert (exposure.arm, exposure.model_version, exposure.experiment) == ("treatment", "2", "experiment-2")
    for use_case in ("fraud", "recommendation"):
        clear_plan(bundles, use_case)
    until(lambda: not service.metric("workbook_challenger_info"), "the end of the plans")
    assert {service.score(200 + n, customer_id=f"k{n}")["model_version"] for n in range(12)} == {"1"}
    assert service.recommend()["model_version"] == "1"


def test_every_page_is_ours_and_none_refers_to_another_host(service):
    pages = {"/": "text/html", "/livez": "json", "/readyz": "json", "/metrics": "text/plain", "/openapi.json": "json"}
    for path, kind in pages.items():
        answer = service.client.get(path)
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
        hosts = set(re.findall(r"https?://([^/:\s\"<]+)", answer.text))
        assert hosts <= {"127.0.0.1"}
    for path in ("/docs.json", "/schema.json", "/healthz", "/static_content/index.html", "/assets/", "/docs"):
        answer = service.client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_it_listens_on_loopback_only(service):
    family = [psutil.Process(service.process.pid), *psutil.Process(service.process.pid).children(recursive=True)]
    open_to = {
        (each.laddr.ip, each.laddr.port)
        for process in family
        for each in process.net_connections(kind="inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert ("127.0.0.1", service.settings.port("serving")) in open_to
    assert {ip for ip, _ in open_to} == {"127.0.0.1"}


def test_wrong_requests_are_refused_by_the_real_server_too(service):
    json_type = {"content-type": "application/json"}

    def large():
        yield b'{"transaction_id":"'
        for _ in range(100):
            yield b"a" * 10_000

    payment = b'{"transaction_id":"x1","customer_id":"c1","terminal_id":"t1","amount":1}'
    asked = [
        (413, {"content": large(), "headers": json_type}),
        (415, {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        (415, {"content": gzip.compress(payment), "headers": {**json_type, "content-encoding": "gzip"}}),
        (400, {"content": b"{", "headers": json_type}),
        (422, {"content": b'{"amount": NaN}', "headers": json_type}),
        (422, {"content": payment[:-1] + b',"amount":2}', "headers": json_type}),
    ]
    for status, request in asked:
        answer = service.client.post(FRAUD_PATH, **request)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
    assert service.score()["degraded"] is False


def test_a_service_that_starts_with_a_damaged_fraud_bundle_still_recommends(tmp_path):
    settings = small_settings(tmp_path / "state", 0)
    make_state(settings)
    folder = StatePaths(settings.state_dir).bundles / "fraud" / "1"
    golden = (folder / "golden.npz").read_bytes()
    for seed in range(8):
        (folder / "golden.npz").write_bytes(flipped_in_arrays(golden, np.random.default_rng(seed)))
        mend_digests(folder)
        metrics = new_metrics()
        house = new_housekeeping(settings, metrics)
        house.prepare()
        assert house.missing == ["fraud"]
        assert b'workbook_bundles_refused_total{use_case="fraud"} 1.0' in metrics.text()


def test_a_service_that_starts_before_everything_else_loses_nothing(tmp_path, port_offset, launch_broker):
    # Half a block further: this service and its broker run beside those of the other tests.
    settings = small_settings(tmp_path / "state", port_offset + BLOCK_SIZE // 2)
    make_state(settings)
    plan_challenger(settings, "fraud", "shadow")
    with running(settings) as found:
        until(lambda: "fraud: version 2 as shadow" in found.client.get("/").text, "the planned challenger")
        # No feature store, no broker and no MLflow: answered by the rule, kept on disk.
        assert found.score(1)["degraded"] is True
        assert found.recommend()["degraded"] is True
        make_features(settings)
        until(lambda: not found.score(2)["degraded"] and not found.recommend()["degraded"], "the features' return")
        until(lambda: found.metric('workbook_prediction_log_total{outcome="spooled"}') >= len(found.answers), "spool")
        with launch_broker(settings) as broker:
            ensure_topics(broker.bootstrap, [PREDICTIONS.name, SHADOWS.name], settings.kafka_partitions)
            until(
                lambda: found.metric('workbook_prediction_log_total{outcome="replayed"}') >= len(found.answers),
                "the replay",
            )
            served = terminate_under_load(found)
            records = logged(broker.bootstrap)
        assert Counter(record.prediction_id for record in records) == Counter(
            [answer["prediction_id"] for answer in found.answers] + served
        )
        assert not list(settings.state_dir.glob("serving/spool/*"))
        lines = (settings.state_dir / "serving.log").read_text().splitlines()
        events = [json.loads(line)["event"] for line in lines if line.startswith("{")]
        assert events[-1] == "stopped"
        assert "endpoint_failed" not in events


def test_a_stop_while_the_broker_is_away_leaves_every_record_on_disk(tmp_path, port_offset):
    settings = small_settings(tmp_path / "state", port_offset + BLOCK_SIZE // 2)
    spool = Spool(tmp_path / "predictions.tsv")
    counts: Counter[str] = Counter()
    log = PredictionLog(
        settings.kafka_bootstrap,
        spool,
        count=lambda outcome, number: counts.update({outcome: number}),
        report=lambda _event, _reason: None,
    )
    records = [example("predictions", prediction_id=f"p{number}") for number in range(5)]
    log.start()
    for record in records:
        log.add(PREDICTIONS, record)
    log.stop()
    assert counts["spooled"] == 5
    assert [msgspec.json.decode(value, type=PredictionLogged) for _, _, value in spool.records()] == records


def terminate_under_load(found: Running) -> list[str]:
    """SIGTERM while clients ask one after the other; the prediction ids of all their answers."""
    served: list[str] = []
    statuses: Counter[int] = Counter()
    draining = threading.Event()

    def ask(client: httpx.Client, number: int) -> None:
        payment = {"transaction_id": f"l{number}", "customer_id": "c1", "terminal_id": "t1", "amount": 1.0}
        answer = client.post(FRAUD_PATH, json=payment)
        statuses[answer.status_code] += 1
        served.append(answer.json()["prediction_id"])

    def client_loop() -> None:
        with httpx.Client(base_url=found.settings.url("serving"), timeout=10.0) as client:
            # A client stops as soon as the service says that it is not ready, as a load balancer would.
            while not draining.is_set():
                ask(client, len(served))

    clients = [threading.Thread(target=client_loop) for _ in range(3)]
    for each in clients:
        each.start()
    until(lambda: len(served) > 50, "load")
    found.process.terminate()
    with httpx.Client(base_url=found.settings.url("serving"), timeout=10.0) as probe:
        until(lambda: probe.get("/readyz").status_code == 503, "the drain")
    draining.set()
    for each in clients:
        each.join(timeout=20)
    assert not any(each.is_alive() for each in clients)
    assert found.process.wait(timeout=30) == 0
    assert set(statuses) == {200}
    return served
