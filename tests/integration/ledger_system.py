"""What the tests of the ledger share: a system of their own with traffic, and ingestion that catches up."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import deltalake
import msgspec
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition
from local_broker import small_settings
from prometheus_client import CollectorRegistry
from sample_events import NOW, stream

from reference_system.clock import FixedClock
from reference_system.events import Event, Topic, encode
from reference_system.features.feast.store import apply, open_store, write_states
from reference_system.features.stream.deduplication import Outcome
from reference_system.flows.ingestion.setup import open_loop
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.proofs.ledger.report import LedgerReport
from reference_system.proofs.scratch_system import Scratch, scratch_system
from reference_system.settings import Settings
from reference_system.stack.kafka.topics import ensure_topics
from reference_system.use_cases import BROKER_TOPICS, TOPICS, topic_named

# Topic, key, value.
Message = tuple[str, bytes | None, bytes | None]


def produce(bootstrap: str, messages: Sequence[Message], *, headers: Sequence[tuple[str, bytes]] = ()) -> None:
    """Send, and wait until the broker has everything."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_request_size=2**21)
    # Asked for one after the other, each topic's partitions would take a tenth of a second.
    for name in {topic for topic, _, _ in messages}:
        producer._sender.add_topic(name)
    try:
        pending = [producer.send(topic, key=key, value=value, headers=list(headers)) for topic, key, value in messages]
        producer.flush(timeout=20)
        for future in pending:
            future.get(timeout=20)
    finally:
        producer.close()


def message(topic: Topic, event: Event) -> Message:
    return topic.name, topic.key_of(event).encode(), encode(event)


def mixed(seed: int, count: int) -> list[Message]:
    """Valid events of every topic, now and then a duplicate, a late event, or bytes that are none."""
    messages: list[Message] = []
    for number, (topic, event) in enumerate(stream(seed, count, days=12.0)):
        messages.append(message(topic, event))
        if number % 31 == 30:
            messages.append(message(topic, event))
        if number % 37 == 36 and topic.name == "transactions":
            early = event.event_timestamp - timedelta(days=2)
            changes = {"event_timestamp": early, "transaction_id": f"late-{number}"}
            messages.append(message(topic, msgspec.structs.replace(event, **changes)))
        if number % 41 == 40:
            messages.append((topic.name, b"c000001", b'{"amount": NaN' + str(number).encode()))
    return messages


@contextmanager
def own_broker(folder: Path) -> Iterator[Scratch]:
    """A broker for the tests of one file: they use the topics by their real names."""
    with scratch_system(small_settings(folder / "state", 0), "test") as running:
        yield running


def emptied(running: Scratch, state_dir: Path) -> Settings:
    """The same broker with every topic empty, and an empty state directory."""
    admin = KafkaAdminClient(bootstrap_servers=running.settings.kafka_bootstrap)
    try:
        admin.delete_topics([name for name in admin.list_topics() if name in BROKER_TOPICS])
        while any(name in BROKER_TOPICS for name in admin.list_topics()):
            time.sleep(0.02)
    finally:
        admin.close()
    ensure_topics(running.settings.kafka_bootstrap, BROKER_TOPICS, running.settings.kafka_partitions)
    return running.settings.model_copy(update={"state_dir": state_dir})


def ingest(settings: Settings) -> None:
    """Consume all that the broker holds, then stop in order."""
    paths = StatePaths(settings.state_dir)
    store = open_store(paths)
    if not paths.feast_registry.exists():
        apply(store)
    metrics = IngestionMetrics(TOPICS, Outcome, registry=CollectorRegistry())
    push = partial(write_states, store)
    with open_loop(settings, push=push, metrics=metrics, clock=FixedClock(NOW)) as loop:
        while not loop.caught_up():
            loop.step()
        loop.finish()


def kinds(report: LedgerReport) -> set[tuple[str, str]]:
    return {(each.where, each.kind) for each in report.problems}


def row_of(system: Settings, topic: str) -> dict[str, object]:
    table = delta_lake.read(StatePaths(system.state_dir).lake, topic_named(topic)).read_all()
    return max(table.to_pylist(), key=lambda row: (row["kafka_partition"], row["kafka_offset"]))


def where(row: dict[str, object]) -> str:
    return f"kafka_partition = {row['kafka_partition']} AND kafka_offset = {row['kafka_offset']}"


def table_of(system: Settings, topic: str) -> deltalake.DeltaTable:
    return deltalake.DeltaTable(StatePaths(system.state_dir).lake / topic)


def end_of(bootstrap: str, topic: str, partition: int) -> int:
    with TopicLog(bootstrap) as log:
        return log.extent(topic)[partition][1]


def remove_until(bootstrap: str, offsets: dict[tuple[str, int], int]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.delete_records({TopicPartition(*place): offset for place, offset in offsets.items()})
    admin.close()
