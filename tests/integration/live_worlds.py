"""A live world for a test: in a thread of its own, and what it published."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

from kafka import KafkaConsumer
from kafka.structs import TopicPartition
from prometheus_client import CollectorRegistry

from reference_system.clock import SimulatedClock
from reference_system.event_time import micros
from reference_system.events import Event, Topic, decode
from reference_system.paths import StatePaths
from reference_system.processes.world import run
from reference_system.settings import Settings
from reference_system.stack.kafka.topics import ensure_topics
from reference_system.use_cases import EVENT_TOPICS
from reference_system.world.checkpoint import restore
from reference_system.world.http_serving import ServingClient
from reference_system.world.kafka_publisher import KafkaPublisher
from reference_system.world.live import LiveWorld
from reference_system.world.prometheus_metrics import WorldMetrics
from reference_system.world.records import transaction_ids
from reference_system.world.simulation import LIVE_SLICE

DEADLINE_SECONDS = 60.0


@dataclass(slots=True)
class Running:
    """A live world in a thread of its own."""

    settings: Settings
    live: LiveWorld | None = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def end(self) -> None:
        self.stop.set()
        assert self.thread is not None
        self.thread.join(DEADLINE_SECONDS)
        assert not self.thread.is_alive()

    def until(self, reached: Callable[[LiveWorld], bool]) -> None:
        """Let it live until something is so."""
        deadline = monotonic() + DEADLINE_SECONDS
        while self.live is None or not reached(self.live):
            assert monotonic() < deadline
            assert self.thread is not None
            assert self.thread.is_alive()
            sleep(0.05)

    def days(self, days: float) -> None:
        """Let it live for some days of event time, then stop it in order."""
        end = micros(SimulatedClock(StatePaths(self.settings.state_dir).clock).now() + timedelta(days=days))
        self.start()
        self.until(lambda live: live.released >= end)
        self.end()

    def _live(self) -> None:
        world, released = restore(StatePaths(self.settings.state_dir).world, self.settings)
        metrics = WorldMetrics(EVENT_TOPICS, registry=self.registry)
        with (
            KafkaPublisher(self.settings.kafka_bootstrap) as publisher,
            ServingClient(self.settings.url("serving"), metrics.count_request) as serving,
        ):
            self.live = LiveWorld(
                settings=self.settings,
                world=world,
                released=released,
                publisher=publisher,
                serving=serving,
                metrics=metrics,
            )
            run(self.live, self.stop)


def as_history_left_it(history: Settings, folder: Path) -> Settings:
    """A state directory with what the live world needs; the lake is not."""
    settings = history.model_copy(update={"state_dir": folder / "state"})
    shutil.copytree(StatePaths(history.state_dir).world, StatePaths(settings.state_dir).world)
    return settings


def make_topics(settings: Settings) -> None:
    ensure_topics(settings.kafka_bootstrap, [topic.name for topic in EVENT_TOPICS], settings.kafka_partitions)


def consumed(settings: Settings, topic: Topic) -> list[Event]:
    """Every event of a topic, strictly decoded, partition by partition."""
    now = SimulatedClock(StatePaths(settings.state_dir).clock).now()
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka_bootstrap, enable_auto_commit=False)
    try:
        places = [TopicPartition(topic.name, number) for number in range(settings.kafka_partitions)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(places)
        events: list[Event] = []
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    event = decode(topic, record.value, now=now)
                    assert record.key == topic.key_of(event).encode()
                    events.append(event)
        return events
    finally:
        consumer.close()


def expected_transactions(checkpoint: Path, settings: Settings, until: int) -> list[str]:
    """The ids that a world without Kafka gives from the same checkpoint."""
    world, _ = restore(checkpoint, settings)
    world.generate(until, LIVE_SLICE)
    ids: list[str] = transaction_ids(world.release_cards(until)[0].times).tolist()
    return ids
