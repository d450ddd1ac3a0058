"""What the tests of ingestion share: messages to send, the loop to run, and what it left behind."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import msgspec
import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry
from sample_events import NOW, stream

from reference_system import delta_lake
from reference_system.clock import FixedClock
from reference_system.commands.run_ingestion import open_loop
from reference_system.events import Event, Topic, encode
from reference_system.features.feast_store import open_store, write_states
from reference_system.features.stream_verdicts import Outcome
from reference_system.flows.ingestion_loop import FaultPoint
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.stack.kafka_topics import end_offsets
from reference_system.use_cases import TOPICS, VIEWS
from reference_system.windows import Tail, WindowedView, unpack_tail

ALL_TOPICS = [name for topic in TOPICS for name in (topic.name, topic.dead_letter)]

Message = tuple[Topic, str, bytes | None]


class Killed(BaseException):
    """Ends the loop where a kill would: nothing after this line runs, nothing is flushed."""


@dataclass(slots=True)
class Ingestion:
    """Starts ingestion on one state directory, again and again."""

    settings: Settings
    registry: CollectorRegistry = field(init=False)

    @property
    def paths(self) -> StatePaths:
        return StatePaths(self.settings.state_dir)

    def run(self, fault: Callable[[FaultPoint], None] = lambda _: None) -> None:
        """Consume all that is there, then stop in order, or die of the fault."""
        push = partial(write_states, open_store(self.paths))
        self.registry = CollectorRegistry()
        metrics = IngestionMetrics(TOPICS, Outcome, registry=self.registry)
        with open_loop(self.settings, push=push, metrics=metrics, clock=FixedClock(NOW), fault=fault) as loop:
            waiting = sum(end_offsets(self.settings.kafka_bootstrap, [topic.name for topic in TOPICS]).values())
            while sum(loop.positions().values()) < waiting:
                loop.step()
            loop.finish()

    def totals(self) -> dict[str, int]:
        with sqlite3.connect(self.paths.stream_state) as db:
            return dict(db.execute("SELECT outcome, sum(events) FROM total GROUP BY outcome"))

    def states(self) -> dict[tuple[str, str], tuple[int, bytes]]:
        with sqlite3.connect(self.paths.stream_state) as db:
            rows = db.execute("SELECT view, key, time, state FROM state").fetchall()
        return {(view, key): (time, state) for view, key, time, state in rows}

    def lake(self) -> dict[str, list[tuple[str, int, int]]]:
        """(event id, partition, offset) of every row, by topic."""
        found = {}
        for topic in TOPICS:
            names = [topic.event_id, "kafka_partition", "kafka_offset"]
            table = delta_lake.read(self.paths.lake, topic, columns=names).read_all()
            found[topic.name] = sorted(zip(*(table[name].to_pylist() for name in names), strict=True))
        return found


def produce(bootstrap: str, messages: Sequence[Message]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20, max_request_size=2**21)
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
    """Valid events with a duplicate, a late event and refused bytes every now and then."""
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


def assert_same_states(one: Ingestion, other: Ingestion) -> None:
    """Equal up to the rounding of sums, whose order depends on where polls begin and end."""
    ours, theirs = one.states(), other.states()
    assert ours.keys() == theirs.keys()
    views = {view.name: view for view in VIEWS}
    for (name, key), (at, state) in ours.items():
        assert theirs[name, key][0] == at
        assert same_state(views[name], state, theirs[name, key][1]), (name, key)


def same_state(view, state: bytes, other: bytes) -> bool:
    if not isinstance(view, WindowedView):
        return state == other
    tails = [in_order(unpack_tail(view, each)) for each in (state, other)]
    return np.array_equal(tails[0].times, tails[1].times) and np.allclose(tails[0].values, tails[1].values)


def in_order(tail: Tail) -> Tail:
    order = np.lexsort([*tail.values.T, tail.times])
    return Tail(tail.times[order], tail.values[order])


def duplicates(messages: Sequence[Message], earlier: Sequence[Message]) -> int:
    seen = Counter(value for _, _, value in earlier)
    count = 0
    for _, _, value in messages:
        count += seen[value] > 0 and not value.endswith(b"NaN")
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
