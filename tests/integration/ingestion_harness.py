"""What the tests of ingestion share: messages to send, consumers to run, and what they left behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.structs import TopicPartition
from local_broker import Broker
from prometheus_client import CollectorRegistry
from sample_events import NOW, example, stream

from reference_system.clock import FixedClock
from reference_system.events import REPARTITION_TOPIC, Event, Topic, encode
from reference_system.features.feast.store import apply, open_store, read_states, write_states
from reference_system.features.stream import snapshot as stream_snapshot
from reference_system.features.stream.deduplication import Outcome
from reference_system.features.stream.snapshot import TaskSnapshot, snapshots
from reference_system.flows.ingestion.loop import FaultPoint, IngestionLoop
from reference_system.flows.ingestion.setup import open_loop
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.stack.kafka.topics import end_offsets, ensure_topics
from reference_system.use_cases import BROKER_TOPICS, TOPICS, VIEWS, topic_named

Message = tuple[Topic, str, bytes | None]
Fault = Callable[[FaultPoint], None]


class Killed(BaseException):
    """Ends the loop where a kill would: nothing after this line runs, nothing is flushed."""


def nothing_happens(_: FaultPoint) -> None:
    """The fault of a good day."""


@dataclass(slots=True)
class Ingestion:
    """Starts consumers on one state directory, again and again."""

    settings: Settings
    # Of the consumer that was opened last.
    registry: CollectorRegistry = field(init=False)

    @property
    def paths(self) -> StatePaths:
        return StatePaths(self.settings.state_dir)

    @contextmanager
    def consumer(
        self, tasks: Collection[int] | None = None, fault: Fault = nothing_happens
    ) -> Iterator[IngestionLoop]:
        """A consumer of some tasks, by default of all, with its own metrics and its own online store."""
        push = partial(write_states, open_store(self.paths))
        self.registry = CollectorRegistry()
        metrics = IngestionMetrics(TOPICS, Outcome, registry=self.registry)
        clock = FixedClock(NOW)
        with open_loop(self.settings, push=push, metrics=metrics, clock=clock, tasks=tasks, fault=fault) as loop:
            yield loop

    def run(self, fault: Fault = nothing_happens, *, consumers: int = 1) -> None:
        """Consume all that is there, then stop in order, or die of the fault."""
        with ExitStack() as opened:
            tasks = range(self.settings.kafka_partitions)
            loops = [opened.enter_context(self.consumer(tasks[n::consumers], fault)) for n in range(consumers)]
            catch_up(loops)
            for loop in loops:
                loop.finish()

    def snapshots(self) -> list[TaskSnapshot]:
        return snapshots(self.paths.stream_tasks)

    def digest(self) -> str:
        return stream_snapshot.digest(self.snapshots())

    def totals(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for task in self.snapshots():
            for (_, outcome), count in task.totals.items():
                found[outcome] += count
        return dict(found)

    def states(self) -> dict[tuple[str, str], tuple[int, bytes]]:
        return {(view, key): (time, state) for task in self.snapshots() for view, key, time, state in task.states}

    def online(self) -> dict[tuple[str, str], tuple[int | None, bytes | None]]:
        """What the online store has for each state of the tasks."""
        store = open_store(self.paths)
        found = {}
        for view in VIEWS:
            keys = sorted(key for name, key in self.states() if name == view.name)
            for key, (state, at) in zip(keys, read_states(store, view, keys), strict=True):
                found[view.name, key] = (at, state)
        return found

    def lake(self) -> dict[str, list[tuple[str, int, int, bool]]]:
        """(event id, partition, offset, late) of every row, by topic."""
        found = {}
        for topic in TOPICS:
            names = [topic.event_id, "kafka_partition", "kafka_offset", delta_lake.LATE]
            table = delta_lake.read(self.paths.lake, topic, columns=names).read_all()
            found[topic.name] = sorted(zip(*(table[name].to_pylist() for name in names), strict=True))
        return found


def catch_up(loops: Sequence[IngestionLoop]) -> None:
    """Step consumers in turn until nothing waits for any of them."""
    while not all(loop.caught_up() for loop in loops):
        for loop in loops:
            loop.step()


def assert_same(one: Ingestion, other: Ingestion) -> None:
    """Equal to the byte: lake rows, outcomes, positions, states, and what the online store answers."""
    assert one.lake() == other.lake()
    assert one.totals() == other.totals()
    assert one.states() == other.states()
    assert one.digest() == other.digest()
    for each in (one, other):
        assert each.online() == each.states()


def empty_topics(broker: Broker, names: Sequence[str] = BROKER_TOPICS) -> None:
    """Make the topics anew, with nothing in them.

    A broker that is short of time leaves topics out of its list now and then: those would keep what they hold.
    """
    for _ in range(5):
        _delete(broker, names)
        ensure_topics(broker.bootstrap, names, broker.settings.kafka_partitions)
        if not any(end_offsets(broker.bootstrap, names).values()):
            return
    raise AssertionError("the topics could not be emptied")


def _delete(broker: Broker, names: Sequence[str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        existing = [name for name in admin.list_topics() if name in names]
        if existing:
            admin.delete_topics(existing)
        while any(name in names for name in admin.list_topics()):
            time.sleep(0.02)
    finally:
        admin.close()


def new_ingestion(broker: Broker, folder: Path) -> Ingestion:
    """An ingestion with empty state in a folder, with no rows on their way between its tasks."""
    settings = broker.settings.model_copy(update={"state_dir": folder})
    settings.state_dir.mkdir()
    apply(open_store(StatePaths(folder)))
    # Another ingestion of the same topics sends the same rows: this one must send its own.
    empty_topics(broker, [REPARTITION_TOPIC])
    return Ingestion(settings)


def produce(bootstrap: str, messages: Sequence[Message]) -> None:
    # Idempotent: a retry must not change the order within a partition, which decides what is late.
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, linger_ms=20, max_request_size=2**21, enable_idempotence=True, acks="all"
    )
    # Asked for one after the other, each topic's partitions would take a tenth of a second.
    for name in {topic.name for topic, _, _ in messages}:
        producer._sender.add_topic(name)
    try:
        pending = [producer.send(topic.name, key=key.encode(), value=value) for topic, key, value in messages]
        producer.flush(timeout=20)
        for future in pending:
            future.get(timeout=20)
    finally:
        producer.close()


def message(topic: Topic, event: Event) -> Message:
    return topic, topic.key_of(event), encode(event)


def mixed(seed: int, count: int) -> list[Message]:
    """Valid events with a rating, a duplicate, a late event and refused bytes every now and then."""
    messages: list[Message] = []
    for number, (topic, event) in enumerate(stream(seed, count)):
        messages.append(message(topic, event))
        if number % 31 == 30:
            messages.append(message(topic, event))
        if number % 37 == 36 and topic.name == "transactions":
            early = msgspec.structs.replace(
                event, event_timestamp=event.event_timestamp - timedelta(days=2), transaction_id=f"late-{number}"
            )
            messages.append(message(topic, early))
        if number % 43 == 42:
            known = getattr(event, "created_timestamp", event.event_timestamp)
            rating = example("ratings", rating_id=f"r{seed}-{number}", event_timestamp=known)
            messages.append(message(topic_named("ratings"), rating))
        if number % 41 == 40:
            messages.append((topic, "c000001", b'{"amount": NaN'))
    return messages


def dead_letters(bootstrap: str, topic: Topic) -> list[tuple[bytes | None, bytes | None, dict[str, bytes]]]:
    """(key, value, headers) of everything on a dead-letter topic."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        places = [TopicPartition(topic.dead_letter, n) for n in consumer.partitions_for_topic(topic.dead_letter)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        ends = consumer.end_offsets(places)
        found = []
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(timeout_ms=200).values():
                found += [(record.key, record.value, dict(record.headers)) for record in records]
        return found
    finally:
        consumer.close()


def duplicates(messages: Sequence[Message], earlier: Sequence[Message]) -> int:
    seen = Counter(value for _, _, value in earlier)
    count = 0
    for _, _, value in messages:
        count += seen[value] > 0 and not (value or b"").endswith(b"NaN")
        seen[value] += 1
    return count


def kill_at(point: FaultPoint, times: int) -> Callable[[FaultPoint], None]:
    """Die when the loop passes the point for the n-th time."""
    left = times

    def fault(here: FaultPoint) -> None:
        nonlocal left
        left -= here == point
        if left == 0 and here == point:
            raise Killed

    return fault
