"""The live world against a real broker; where serving is asked, it is a real HTTP server or nobody at all."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from kafka.admin import KafkaAdminClient
from live_worlds import Running, as_history_left_it, consumed, expected_transactions, make_topics

from reference_system.clock import SimulatedClock, read_heartbeat
from reference_system.event_time import micros
from reference_system.events import Topic
from reference_system.paths import StatePaths
from reference_system.settings import LOOPBACK, Settings
from reference_system.use_cases import EVENT_TOPICS, topic_named
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS, TRANSACTIONS
from reference_system.use_cases.recommendation.events import IMPRESSIONS, VIDEOS, WATCHES
from reference_system.world import simulation
from reference_system.world.checkpoint import CHECKPOINT
from reference_system.world.history import write_history
from reference_system.world.scenarios import SCENARIOS, Scenario, started, write_runs

if TYPE_CHECKING:
    from local_broker import Broker, LaunchBroker


@pytest.fixture(scope="module", autouse=True)
def mistakes() -> Iterator[None]:
    """In a world of this size a mistake is mended every other day; with these, more than one an hour."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulation, "_MISTAKEN_SHARE", 0.02)
        yield


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory, port_offset: int) -> Settings:
    """A world with its history, and a broker of its own: its topics have fixed names. Two hours a second."""
    settings = Settings(
        _env_file=None,
        state_dir=tmp_path_factory.mktemp("history") / "state",
        port_offset=port_offset,
        kafka_port=9099,
        kafka_controller_port=9100,
        speed=7_200.0,
        history_days=45,
        customers=2_000,
        viewers=800,
    )
    write_history(settings, lambda _: None)
    return settings


@pytest.fixture(scope="module")
def own_broker(history: Settings, launch_broker: LaunchBroker) -> Iterator[Broker]:
    """The broker of that world."""
    with launch_broker(history) as running:
        yield running


@pytest.fixture
def world(history: Settings, own_broker: Broker, tmp_path: Path) -> Settings:
    """The world as history left it, and its topics, empty."""
    return with_empty_topics(history, own_broker, tmp_path)


@pytest.fixture(scope="module")
def lived(history: Settings, own_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """A world that lived for a day and a half without serving."""
    world = with_empty_topics(history, own_broker, tmp_path_factory.mktemp("lived"))
    running = Running(world)
    running.days(1.5)
    return Lived(world=world, running=running, events={topic: consumed(world, topic) for topic in EVENT_TOPICS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Lived:
    """A world that has lived, and every event that it published."""

    world: Settings
    running: Running
    events: dict[Topic, list[Any]]


def with_empty_topics(history: Settings, own_broker: Broker, folder: Path) -> Settings:
    admin = KafkaAdminClient(bootstrap_servers=own_broker.bootstrap)
    try:
        names = {topic.name for topic in EVENT_TOPICS}
        if names.intersection(admin.list_topics()):
            admin.delete_topics(list(names))
        while names.intersection(admin.list_topics()):
            sleep(0.02)
    finally:
        admin.close()
    make_topics(history)
    return as_history_left_it(history, folder)


@pytest.fixture
def beginning(history: Settings) -> Path:
    """The folder with the checkpoint as history left it."""
    return StatePaths(history.state_dir).world


def test_the_world_publishes_to_every_topic_without_serving(lived: Lived, beginning: Path):
    world, running, found = lived.world, lived.running, lived.events
    assert running.live is not None

    assert all(found.values())
    for topic, events in found.items():
        ids = [topic.id_of(event) for event in events]
        assert len(set(ids)) == len(ids)
        counted = running.registry.get_sample_value("workbook_world_events_total", {"topic": topic.name})
        assert counted == len(events)
    transactions = sorted(topic_named("transactions").id_of(event) for event in found[TRANSACTIONS])
    assert transactions == expected_transactions(beginning, world, running.live.released)
    assert {page.policy for page in found[IMPRESSIONS]} == {"popularity"}
    shown = {page.impression_id: page for page in found[IMPRESSIONS]}
    live_watches = [watch for watch in found[WATCHES] if watch.impression_id in shown]
    assert len(live_watches) > 0.8 * len(found[WATCHES])
    assert all(watch.video_id == shown[watch.impression_id].video_ids[watch.position - 1] for watch in live_watches)
    assert all(event.created_timestamp > event.event_timestamp for event in found[CHARGEBACKS] + found[REVERSALS])
    # What history promised comes true: payments of before are disputed now.
    history_end = world.history_start + timedelta(days=world.history_days)
    assert any(event.event_timestamp < history_end for event in found[CHARGEBACKS])
    assert all(event.event_timestamp >= history_end for event in found[VIDEOS])


def test_each_customers_payments_keep_their_order(lived: Lived):
    last: dict[str, Any] = {}
    for event in lived.events[TRANSACTIONS]:
        assert event.event_timestamp >= last.get(event.customer_id, event.event_timestamp)
        last[event.customer_id] = event.event_timestamp


def test_time_stands_still_while_the_world_is_stopped_and_goes_on_where_it_stood(world: Settings, beginning: Path):
    clock = SimulatedClock(StatePaths(world.state_dir).clock)
    Running(world).days(0.3)
    stopped_at = clock.now()
    sleep(0.5)
    assert clock.now() == stopped_at
    assert read_heartbeat(clock.path).speed == 0.0

    second = Running(world)
    second.days(0.3)
    assert second.live is not None
    transactions = sorted(TRANSACTIONS.id_of(event) for event in consumed(world, TRANSACTIONS))
    assert transactions == expected_transactions(beginning, world, second.live.released)


def test_a_world_that_died_before_its_checkpoint_publishes_the_same_payments_again(world: Settings, beginning: Path):
    Running(world).days(0.3)
    shutil.copy(beginning / CHECKPOINT, StatePaths(world.state_dir).world)
    second = Running(world)
    second.days(0.1)
    assert second.live is not None
    published = Counter(consumed_once for consumed_once in map(msgspec.json.encode, consumed(world, TRANSACTIONS)))
    ids = {TRANSACTIONS.id_of(msgspec.json.decode(data, type=TRANSACTIONS.record)) for data in published}
    assert sorted(ids) == expected_transactions(beginning, world, second.live.released)
    assert len(ids) == len(published)  # a repeated id has the very same bytes
    assert 2 in published.values()


def test_a_broker_that_dies_stops_the_clock_and_loses_nothing(
    history: Settings, beginning: Path, launch_broker: LaunchBroker, tmp_path: Path
):
    own = as_history_left_it(history, tmp_path).model_copy(update={"kafka_port": 9097, "kafka_controller_port": 9098})
    clock = SimulatedClock(StatePaths(own.state_dir).clock)
    begun = clock.now()
    running = Running(own)
    with launch_broker(own) as first:
        make_topics(own)
        running.start()
        running.until(lambda live: live.released > micros(begun + timedelta(hours=2)))
        first.process.kill()
        first.process.wait()
        sleep(3.0)
        stands = clock.now()
        sleep(1.0)
        assert clock.now() == stands
    with launch_broker(own):
        running.until(lambda live: live.released > micros(stands + timedelta(hours=6)))
        running.end()
        assert running.live is not None
        transactions = {TRANSACTIONS.id_of(event) for event in consumed(own, TRANSACTIONS)}
        assert sorted(transactions) == expected_transactions(beginning, own, running.live.released)


@pytest.fixture
def serving(world: Settings) -> Iterator[list[dict[str, Any]]]:
    """An HTTP server at the service's address that recommends the first videos; the requests that it got."""
    asked: list[dict[str, Any]] = []

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            answer: dict[str, Any] = {"decision": "block", "degraded": False}
            if "viewer_id" in body:
                items = [{"video_id": f"m{number:06d}", "propensity": 1.0} for number in range(1, 10)]
                items.append({"video_id": "m000010", "propensity": 0.02})
                answer = {
                    "prediction_id": f"prediction-{len(asked)}",
                    "items": items,
                    "model_version": "7",
                    "degraded": False,
                }
            data = msgspec.json.encode(answer)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # its own 5 are fewer than the world's connections

    server = Server((LOOPBACK, world.port("serving")), Answering)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield asked
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_the_world_shows_what_serving_recommends_and_asks_about_every_payment(
    world: Settings, serving: list[dict[str, Any]]
):
    running = Running(world)
    running.days(0.7)
    transactions = {TRANSACTIONS.id_of(event): event for event in consumed(world, TRANSACTIONS)}
    scored = {body["transaction_id"]: body for body in serving if "transaction_id" in body}
    # Blocked or not, every payment is an event. A busy machine may miss the deadline of some requests.
    assert scored.keys() <= transactions.keys()
    assert len(scored) > 0.8 * len(transactions)
    for transaction_id, body in scored.items():
        assert body["amount"] == transactions[transaction_id].amount

    shown = consumed(world, IMPRESSIONS)
    pages = {page.impression_id: page for page in shown if page.policy == "7"}
    assert len(pages) > 0.7 * len(shown)
    explored = [page for page in shown if page.policy == "popularity"]
    assert explored
    assert all(min(page.propensities) < 1.0 for page in explored)
    for page in pages.values():
        assert page.impression_id.startswith("prediction-")
        assert page.video_ids == [f"m{number:06d}" for number in range(1, 11)]
        assert page.propensities == [1.0] * 9 + [0.02]
    watches = [watch for watch in consumed(world, WATCHES) if watch.impression_id in pages]
    assert watches
    assert all(watch.video_id == f"m{watch.position:06d}" for watch in watches)


def test_a_scenario_that_is_started_changes_the_events_that_follow(world: Settings):
    running = Running(world)
    running.start()
    running.until(lambda live: live.released > micros(world.history_start + timedelta(days=world.history_days)))
    clock = SimulatedClock(StatePaths(world.state_dir).clock)
    begun = clock.now()
    write_runs(StatePaths(world.state_dir).world / SCENARIOS, started((), Scenario.VIRAL_VIDEO, begun))
    running.until(lambda live: live.released > micros(begun + timedelta(hours=18)))
    running.end()
    pages = consumed(world, IMPRESSIONS)
    linked = [page for page in pages if page.policy == "outside_link"]
    assert linked
    assert min(page.event_timestamp for page in linked) >= begun
    (viral,) = {video for page in linked for video in page.video_ids}
    watches = [watch for watch in consumed(world, WATCHES) if watch.event_timestamp > begun]
    assert sum(watch.video_id == viral for watch in watches) > 0.1 * len(watches)
