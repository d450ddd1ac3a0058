"""Ingestion against a real broker, a real lake and a real Feast store: what is counted, and what a kill changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import get_args

import httpx
import pytest
from ingestion_harness import (
    Ingestion,
    Killed,
    Message,
    assert_same,
    dead_letters,
    duplicates,
    empty_topics,
    kill_at,
    message,
    mixed,
    new_ingestion,
    produce,
)
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition
from local_broker import free_port_offset, small_settings
from prometheus_client.parser import text_string_to_metric_families
from sample_events import NOW, example, stream

from reference_system.clock import Heartbeat, write_heartbeat
from reference_system.errors import ServiceError, StateError
from reference_system.features.feast.store import apply, open_store
from reference_system.features.stream.rebuild import remove_sqlite
from reference_system.features.stream.snapshot import task_file
from reference_system.flows.ingestion.loop import FaultPoint
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.paths import StatePaths
from reference_system.processes.ingestion import main
from reference_system.settings import Settings
from reference_system.stack.kafka.topics import ensure_topics
from reference_system.use_cases import BROKER_TOPICS, TOPICS, VIEWS, topic_named
from reference_system.windows import unpack_tail

POINTS = get_args(FaultPoint)


@pytest.fixture(scope="module")
def broker(tmp_path_factory, launch_broker):
    """A broker of its own: these tests use the topics by their real names, and delete them."""
    with launch_broker(small_settings(tmp_path_factory.mktemp("broker") / "state", free_port_offset())) as running:
        yield running


@pytest.fixture
def topics(broker):
    """The broker with every topic, empty."""
    empty_topics(broker)
    return broker


@pytest.fixture
def make_ingestion(topics, tmp_path) -> Callable[[str], Ingestion]:
    """An ingestion with empty state in a folder of that name."""
    return lambda name: new_ingestion(topics, tmp_path / name)


@pytest.fixture
def send(topics) -> Callable[[Sequence[Message]], None]:
    return partial(produce, topics.bootstrap)


def test_every_event_has_exactly_one_outcome(make_ingestion, send, broker):
    messages = mixed(1, 800)
    send(messages)
    ingestion = make_ingestion("one")
    ingestion.run()

    valid = {(topic.name, value) for topic, _, value in messages if not value.endswith(b"NaN")}
    refused = sum(value.endswith(b"NaN") for _, _, value in messages)
    late = sum(b"late-" in value for _, _, value in messages)
    totals = ingestion.totals()
    assert totals["late"] == late > 0
    assert totals["dead_lettered"] == refused > 0
    assert totals["counted"] == len(valid) - late
    assert totals["duplicate"] == len(messages) - len(valid) - refused > 0
    assert sum(len(rows) for rows in ingestion.lake().values()) == len(valid)
    assert sum(len(dead_letters(broker.bootstrap, topic)) for topic in TOPICS) == refused


def test_a_late_event_is_in_the_lake_and_in_no_window(make_ingestion, send):
    topic = topic_named("transactions")
    late = example("transactions", transaction_id="x2", event_timestamp=NOW - timedelta(days=1, seconds=1))
    send([message(topic, example("transactions")), message(topic, late)])
    ingestion = make_ingestion("late")
    ingestion.run()
    assert [row[0] for row in ingestion.lake()["transactions"]] == ["x1", "x2"]
    view = next(view for view in VIEWS if view.name == "customer_activity")
    assert len(unpack_tail(view, ingestion.states()["customer_activity", "c000001"][1]).times) == 1


def test_the_online_store_has_the_states_of_the_tasks(make_ingestion, send):
    send(mixed(2, 300))
    ingestion = make_ingestion("feast")
    ingestion.run()
    states = ingestion.states()
    assert {view for view, _ in states} == {view.name for view in VIEWS}
    assert ingestion.online() == states


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_changes_nothing(point: FaultPoint, make_ingestion, send):
    killed = make_ingestion("killed")
    kills = 0
    for part in range(2):
        send(mixed(10 + part, 300))
        for times in (1, 2):
            try:
                killed.run(kill_at(point, times))
            except Killed:
                kills += 1
    killed.run()
    assert kills >= 2
    whole = make_ingestion("whole")
    whole.run()
    assert_same(killed, whole)


def test_a_kill_while_a_state_is_built_again_changes_nothing(make_ingestion, send):
    killed = make_ingestion("killed")
    for part, point in enumerate(POINTS):
        send(mixed(20 + part, 120))
        with suppress(Killed):
            killed.run(kill_at(point, 1))
        lose(killed, part % killed.settings.kafka_partitions)
    killed.run()
    whole = make_ingestion("whole")
    whole.run()
    assert_same(killed, whole)


def lose(ingestion: Ingestion, *tasks: int) -> None:
    """Remove task files."""
    for task in tasks:
        remove_sqlite(task_file(ingestion.paths.stream_tasks, task))


@pytest.mark.parametrize("lost", [(1,), (0, 1, 2, 3)])
def test_lost_task_files_are_built_again_from_the_lake(lost: tuple[int, ...], make_ingestion, send):
    ingestion = make_ingestion("lost")
    messages = mixed(3, 600)
    send(messages[:500])
    ingestion.run()
    before, states, totals = ingestion.digest(), ingestion.states(), ingestion.totals()
    lose(ingestion, *lost)
    ingestion.run()
    assert ingestion.totals() == totals
    assert ingestion.states() == states
    assert ingestion.digest() == before
    # It goes on from there, and knows a duplicate of what came before the loss.
    send([*messages[500:], messages[0]])
    ingestion.run()
    assert sum(ingestion.totals().values()) == len(messages) + 1
    assert ingestion.totals()["duplicate"] == totals["duplicate"] + 1 + duplicates(messages[500:], messages[:500])
    assert ingestion.online() == ingestion.states()


def test_ingestion_stops_while_the_dead_letter_topic_is_away(make_ingestion, send, broker):
    topic = topic_named("chargebacks")
    ingestion = make_ingestion("stop")
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_topics([topic.dead_letter])
    admin.close()
    send([(topic, "t000001", b"no event"), message(topic, example("chargebacks"))])
    with pytest.raises(ServiceError, match=r"chargebacks\.dead-letter"):
        ingestion.run()
    assert ingestion.totals() == {}
    ensure_topics(broker.bootstrap, BROKER_TOPICS, broker.settings.kafka_partitions)
    ingestion.run()
    assert ingestion.totals() == {"dead_lettered": 1, "counted": 1}
    assert [value for _, value, _ in dead_letters(broker.bootstrap, topic)] == [b"no event"]


def test_a_broker_that_lost_its_log_is_not_mistaken_for_ours(make_ingestion, send, broker):
    ingestion = make_ingestion("foreign")
    topic = topic_named("videos")
    send([message(topic, example("videos"))])
    ingestion.run()
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_topics([topic.name])
    while topic.name in admin.list_topics():
        time.sleep(0.02)
    admin.close()
    ensure_topics(broker.bootstrap, BROKER_TOPICS, broker.settings.kafka_partitions)
    with pytest.raises(StateError, match="do not belong together"):
        ingestion.run()


def test_events_that_retention_removed_unread_are_told_as_lost(make_ingestion, send, broker):
    ingestion = make_ingestion("away")
    topic = topic_named("videos")
    send([message(topic, example("videos"))])
    ingestion.run()
    send([message(topic, example("videos", video_id=f"m{number}")) for number in range(2, 30)])
    with TopicLog(broker.bootstrap) as log:
        ends = {TopicPartition(topic.name, part): end for part, (_, end) in log.extent(topic.name).items()}
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.delete_records(ends)
    admin.close()
    with pytest.raises(StateError, match=r"retention removed .* they are lost") as raised:
        ingestion.run()
    assert raised.value.next_command == "workbook verify"


def test_metrics_continue_after_a_restart(make_ingestion, send):
    ingestion = make_ingestion("metrics")
    send([message(topic_named("videos"), example("videos"))])
    ingestion.run()
    ingestion.run()

    def value(name: str, **labels: str) -> float | None:
        return ingestion.registry.get_sample_value(name, labels)

    assert value("workbook_events_total", topic="videos", outcome="counted") == 1
    assert value("workbook_events_total", topic="watches", outcome="late") == 0
    assert value("workbook_consumer_lag", topic="videos") == 0
    assert value("workbook_freshness_ms", quantile="0.5") is None, "nothing was new this time"


@pytest.fixture
def own(settings: Settings) -> Settings:
    """Settings for a broker that the test may kill, beside the shared one."""
    return settings.model_copy(update={"kafka_port": 9099, "kafka_controller_port": 9100})


@pytest.fixture
def process(own: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """The real process, over empty state."""
    paths = StatePaths(own.state_dir)
    apply(open_store(paths))
    write_heartbeat(paths.clock, Heartbeat(event_time=NOW, wall_seconds=0.0, speed=0.0))
    start = "from reference_system.processes.ingestion import main; main(load_settings())"
    environment = {
        **os.environ,
        "WORKBOOK_STATE_DIR": str(own.state_dir),
        "WORKBOOK_PORT_OFFSET": str(own.port_offset),
        "WORKBOOK_KAFKA_PORT": str(own.kafka_port),
    }
    command = [sys.executable, "-c", f"from reference_system.settings import load_settings; {start}"]
    with (own.state_dir / "ingestion.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    yield process
    process.kill()
    process.wait()


def wait_for_events(settings: Settings, process: subprocess.Popen[bytes], count: int) -> None:
    """Read the process's metrics until it has seen so many events; the test's timeout is the deadline."""
    total = 0.0
    while total < count:
        assert process.poll() is None, (settings.state_dir / "ingestion.log").read_text()
        try:
            page = httpx.get(f"{settings.url('ingestion_metrics')}/metrics").text
        except httpx.TransportError:
            page = ""
        samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
        total = sum(sample.value for sample in samples if sample.name == "workbook_events_total")
        time.sleep(0.05)


def test_the_process_outlives_a_killed_broker_and_stops_when_asked(own: Settings, launch_broker, request):
    first, later = [[message(*each) for each in stream(seed, 200)] for seed in (21, 22)]
    with launch_broker(own) as broker:
        ensure_topics(broker.bootstrap, BROKER_TOPICS, broker.settings.kafka_partitions)
        process = request.getfixturevalue("process")
        produce(broker.bootstrap, first)
        wait_for_events(own, process, 200)
        broker.process.kill()
        broker.process.wait(timeout=20)
    with launch_broker(own) as broker:
        produce(broker.bootstrap, later)
        wait_for_events(own, process, 400)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 0
    ingestion = Ingestion(own)
    assert sum(ingestion.totals().values()) == 400
    assert sum(len(rows) for rows in ingestion.lake().values()) == 400
    log = (own.state_dir / "ingestion.log").read_text()
    assert log.rstrip().endswith("everything that was read is stored"), log


def test_without_a_clock_the_process_says_what_is_missing(settings: Settings):
    with pytest.raises(StateError, match=r"clock\.json"):
        main(settings)
