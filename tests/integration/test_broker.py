"""The broker is real: started, used, killed and started again."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import KafkaError
from kafka.structs import TopicPartition

from reference_system.errors import ServiceError, StateError
from reference_system.paths import StatePaths
from reference_system.stack.kafka import broker as kafka_broker
from reference_system.stack.kafka.topics import end_offsets, ensure_topics, wait_for_broker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from local_broker import Broker, LaunchBroker

    from reference_system.settings import Settings

YEARS_AHEAD_MS = 4_102_444_800_000  # the first of January 2100
MEBIBYTE = 1024 * 1024


def produce(bootstrap: str, topic: str, values: Sequence[bytes], timestamp_ms: int | None = None) -> None:
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        enable_idempotence=True,
        max_block_ms=3_000,
        max_request_size=3 * MEBIBYTE,
    )
    try:
        sent = [
            producer.send(topic, key=str(number).encode(), value=value, timestamp_ms=timestamp_ms)
            for number, value in enumerate(values)
        ]
        for future in sent:
            future.get(timeout=20)
    finally:
        producer.close()


def consume(bootstrap: str, topic: str) -> list[bytes]:
    """Everything from the beginning to the end offsets of this moment."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        wanted = sum(consumer.end_offsets(places).values())
        values: list[bytes] = []
        while len(values) < wanted:
            values += [record.value for batch in consumer.poll(5_000).values() for record in batch]
        return values
    finally:
        consumer.close()


def test_what_is_produced_is_consumed(broker: Broker, topic_names: Callable[..., list[str]]):
    (topic,) = topic_names("transactions")
    ensure_topics(broker.bootstrap, [topic], 4)
    values = [f"event {number}".encode() for number in range(500)]

    produce(broker.bootstrap, topic, values)

    assert sorted(consume(broker.bootstrap, topic)) == sorted(values)
    assert end_offsets(broker.bootstrap, [topic]) == {topic: 500}


def test_topics_are_made_with_their_partitions_and_only_once(broker: Broker, topic_names: Callable[..., list[str]]):
    first, second = topic_names("transactions", "watches")

    assert ensure_topics(broker.bootstrap, [first], 4) == [first]
    assert ensure_topics(broker.bootstrap, [first, second], 4) == [second]
    assert ensure_topics(broker.bootstrap, [first, second], 4) == []

    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    try:
        assert consumer.partitions_for_topic(first) == {0, 1, 2, 3}
    finally:
        consumer.close()


def test_a_topic_is_not_made_by_producing_to_it(broker: Broker, topic_names: Callable[..., list[str]]):
    (misspelt,) = topic_names("transactoins")

    with pytest.raises(KafkaError):
        produce(broker.bootstrap, misspelt, [b"lost?"])

    assert end_offsets(broker.bootstrap, [misspelt]) == {}


def test_a_topic_with_too_few_partitions_is_an_error_that_says_what_to_do(
    broker: Broker, topic_names: Callable[..., list[str]]
):
    (topic,) = topic_names("transactions")
    ensure_topics(broker.bootstrap, [topic], 2)

    with pytest.raises(StateError, match="2 partitions and the settings ask for 4") as caught:
        ensure_topics(broker.bootstrap, [topic], 4)

    assert "WORKBOOK_KAFKA_PARTITIONS" in str(caught.value)
    assert caught.value.next_command == "make clean"


def test_a_topic_with_more_partitions_than_asked_is_used_as_it_is(
    broker: Broker, topic_names: Callable[..., list[str]]
):
    (topic,) = topic_names("transactions")
    ensure_topics(broker.bootstrap, [topic], 3)

    assert ensure_topics(broker.bootstrap, [topic], 2) == []


def test_an_event_from_the_simulated_future_is_accepted(broker: Broker, topic_names: Callable[..., list[str]]):
    (topic,) = topic_names("transactions")
    ensure_topics(broker.bootstrap, [topic], 1)

    produce(broker.bootstrap, topic, [b"then"], timestamp_ms=YEARS_AHEAD_MS)
    produce(broker.bootstrap, topic, [b"long ago"], timestamp_ms=1)

    assert consume(broker.bootstrap, topic) == [b"then", b"long ago"]


def test_the_largest_event_still_fits_into_its_dead_letter_topic(
    broker: Broker, topic_names: Callable[..., list[str]]
):
    topic, dead_letter = topic_names("transactions", "transactions.dead-letter")
    ensure_topics(broker.bootstrap, [topic, dead_letter], 1)
    with_headers = os.urandom(MEBIBYTE + 10_000)

    with pytest.raises(KafkaError):
        produce(broker.bootstrap, topic, [with_headers])
    produce(broker.bootstrap, dead_letter, [with_headers])

    assert consume(broker.bootstrap, dead_letter) == [with_headers]


def test_only_loopback_is_listened_on(broker: Broker):
    listening = [
        connection.laddr
        for connection in psutil.Process(broker.process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]

    assert {address.ip for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} == {
        broker.settings.port("kafka"),
        broker.settings.port("kafka_controller"),
    }


def test_disk_use_of_a_topic_is_bounded_and_independent_of_time(broker: Broker, topic_names: Callable[..., list[str]]):
    (topic,) = topic_names("transactions")
    ensure_topics(broker.bootstrap, [topic], 1)
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        (answer,) = admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all").values()
    finally:
        admin.close()

    names = ("retention.bytes", "segment.bytes", "retention.ms")
    found = {name: int(answer[topic][name]["value"]) for name in names}
    assert found == {"retention.bytes": 256 * MEBIBYTE, "segment.bytes": 16 * MEBIBYTE, "retention.ms": -1}


@pytest.fixture
def own(settings: Settings) -> Settings:
    """Settings for a second broker beside the shared one, in the same block of ports."""
    return settings.model_copy(update={"kafka_port": 9099, "kafka_controller_port": 9100})


def test_a_killed_broker_starts_again_with_its_data(
    own: Settings, launch_broker: LaunchBroker, topic_names: Callable[..., list[str]]
):
    (topic,) = topic_names("transactions")
    values = [f"event {number}".encode() for number in range(1_000)]

    with launch_broker(own) as first:
        ensure_topics(first.bootstrap, [topic], 4)
        produce(first.bootstrap, topic, values)
        first.process.kill()
        first.process.wait(timeout=20)

    with launch_broker(own) as second:
        assert ensure_topics(second.bootstrap, [topic], 4) == []
        assert sorted(consume(second.bootstrap, topic)) == sorted(values)
        produce(second.bootstrap, topic, [b"and on it goes"])
        assert end_offsets(second.bootstrap, [topic]) == {topic: 1_001}


def test_the_process_entry_point_becomes_java_and_stops_when_asked(own: Settings):
    program = (
        "import sys\n"
        "from reference_system.processes.kafka import main\n"
        "from reference_system.settings import Settings\n"
        "main(Settings.model_validate_json(sys.argv[1]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, own.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for_broker(own.kafka_bootstrap, own.ready_seconds)
        assert psutil.Process(process.pid).name() == "java"
        assert psutil.Process(process.pid).children() == []
        process.terminate()
        output, _ = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=20)

    assert "shut down completed" in output
    assert not psutil.pid_exists(process.pid)


def test_a_start_that_was_interrupted_while_formatting_is_repeated(own: Settings):
    data = StatePaths(own.state_dir).kafka / "data"
    unfinished = data.with_name("data.unfinished")
    unfinished.mkdir(parents=True)
    (unfinished / "meta.properties").write_text("half")

    kafka_broker.prepare_broker(own)

    assert not unfinished.exists()
    assert kafka_broker.CLUSTER_ID in (data / "meta.properties").read_text()


def test_damaged_class_archives_are_dropped_and_made_anew(
    own: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    java_classes, kafka_classes = tmp_path / "java.jsa", tmp_path / "kafka.jsa"
    monkeypatch.setattr(kafka_broker, "JAVA_CLASSES", java_classes)
    monkeypatch.setattr(kafka_broker, "KAFKA_CLASSES", kafka_classes)
    java_classes.write_bytes(b"half written")

    kafka_broker.prepare_broker(own)
    whole = java_classes.stat().st_size
    kafka_classes.write_bytes(b"half written")
    kafka_broker.prepare_broker(own)

    assert whole > MEBIBYTE
    assert java_classes.stat().st_size == whole
    assert not kafka_classes.exists()


def test_the_state_may_lie_under_a_path_with_spaces_and_accents(
    own: Settings, launch_broker: LaunchBroker, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LC_ALL", "C")
    abroad = own.model_copy(update={"state_dir": own.state_dir / "josé und 数据 🎬"})

    with launch_broker(abroad) as running:
        assert ensure_topics(running.bootstrap, ["transactions"], 1) == ["transactions"]

    assert (StatePaths(abroad.state_dir).kafka / "data" / "transactions-0").is_dir()


def test_a_broker_that_is_not_there_is_one_clear_error(settings: Settings):
    nobody = f"127.0.0.1:{settings.port('kafka') + 2}"

    with pytest.raises(ServiceError, match=f"{nobody} does not answer after 0.3 s"):
        wait_for_broker(nobody, 0.3)
    with pytest.raises(ServiceError, match=f"no Kafka broker answers at {nobody}"):
        end_offsets(nobody, ["transactions"])
