"""The consumer that most examples show: process each event, then commit the offset to Kafka.

In: a topic. Out: how often each event was counted, totals by entity, one push to Feast for each event.
Invariant: none, on purpose. After a kill between processing and commit it counts events again; a commit before
processing would lose them. The drills must detect this, and ingestion's speed is compared with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Self

import msgspec
from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from reference_system.events import Event, Topic
from reference_system.proofs.baselines.feast_naive_push import Push

_POLL_MS = 200
_SCHEMA = """
CREATE TABLE IF NOT EXISTS counted (topic TEXT, event_id TEXT, times INTEGER, PRIMARY KEY (topic, event_id));
CREATE TABLE IF NOT EXISTS total (key TEXT PRIMARY KEY, events INTEGER, amount REAL);
"""


class NaiveConsumer:
    """One consumer of all partitions; a context manager."""

    def __init__(  # noqa: PLR0913 - one argument per dependency
        self,
        bootstrap: str,
        topics: Sequence[Topic],
        partitions: int,
        tally: Path,
        push: Push,
        *,
        pushed: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect; the position is the last one committed to Kafka.

        Args:
            bootstrap: the broker's `host:port`.
            topics: the topics to consume.
            partitions: of each topic.
            tally: its SQLite file.
            push: sends one event's totals to Feast.
            pushed: called after each push, before the commit.
        """
        self._topics = {topic.name: topic for topic in topics}
        self._decoders = {topic.name: msgspec.json.Decoder(topic.record) for topic in topics}
        self._push = push
        self._pushed = pushed
        self._db = open_tally(tally)
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            client_id="workbook-naive",
            group_id="workbook-naive",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        # Assigned explicitly: a killed group member would keep its partitions for the session timeout of 45 s.
        self._places = [TopicPartition(topic.name, n) for topic in topics for n in range(partitions)]
        self._consumer.assign(self._places)

    def __enter__(self) -> Self:
        """The consumer itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Disconnect."""
        self._consumer.close(autocommit=False)
        self._db.close()

    def step(self) -> int:
        """Poll, process, commit; returns the number of records."""
        batches = self._consumer.poll(timeout_ms=_POLL_MS)
        count = sum(self._process(record.topic, record.value) for batch in batches.values() for record in batch)
        if count:
            self._consumer.commit()
        return count

    def read(self, count: int) -> float:
        """Process at least `count` events; returns the CPU seconds per event."""
        done = 0
        began = process_time()
        while done < count:
            done += self.step()
        return (process_time() - began) / done

    def caught_up(self) -> bool:
        """Whether no record waits."""
        ends = self._consumer.end_offsets(self._places)
        return all(self._consumer.position(place) >= end for place, end in ends.items())

    def _process(self, name: str, value: bytes) -> int:
        topic = self._topics[name]
        try:
            event: Event = self._decoders[name].decode(value)
        except msgspec.MsgspecError:
            return 1
        self._db.execute(
            "INSERT INTO counted VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
            (name, topic.id_of(event)),
        )
        added = (topic.key_of(event), float(getattr(event, "amount", 0.0)))
        events, amount = self._db.execute(
            "INSERT INTO total VALUES (?, 1, ?) ON CONFLICT DO UPDATE"
            " SET events = events + 1, amount = amount + excluded.amount RETURNING events, amount",
            added,
        ).fetchone()
        self._push(added[0], event.event_timestamp, float(events), float(amount))
        self._pushed()
        return 1


def open_tally(path: Path) -> sqlite3.Connection:
    """The naive consumer's SQLite file; every statement is a separate transaction."""
    path.parent.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = OFF")
    db.executescript(_SCHEMA)
    return db
