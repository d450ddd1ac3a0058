"""The loop of ingestion: Kafka → dead letters, stream state, online store and lake.

In: records of all topics. Out: each valid event once in the lake and once in the windows, refused bytes on their
dead-letter topic, states in the online store.
Invariant: a crash between any two lines loses nothing and counts nothing twice. Each sink remembers its own offsets
with its own data; reading starts at the smallest of them and each sink ignores what it has.

The order within a step: refused bytes are safe on the dead-letter topic before the offsets move past them; states
are pushed after they are durable (they stay marked until then); the lake follows in larger commits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

from reference_system.clock import Clock, wall_seconds
from reference_system.events import Topic
from reference_system.features.stream_state import StreamState
from reference_system.features.stream_verdicts import Arrival
from reference_system.ingestion.decode import Decoded, Record, decode_records
from reference_system.ingestion.delta_sink import DeltaSink
from reference_system.ingestion.kafka_consumer import EventSource, Place
from reference_system.ingestion.kafka_dead_letter import DeadLetters
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.windows import View

# Places where a test stops the loop as a kill would.
FaultPoint = Literal["dead letters sent", "state committed", "states pushed", "lake committed"]
PushStates = Callable[[View, Sequence[tuple[str, int, bytes]]], None]

_REPORT_SECONDS = 1.0
# The clock judged these records when they were new; their verdict is in the state and cannot change.
_ANY_TIME = datetime(9999, 1, 1, tzinfo=UTC)


def starts(*sinks: Mapping[Place, int]) -> dict[Place, int]:
    """For each partition the smallest next offset of any sink; a sink that does not know one needs it all."""
    return {place: min(sink.get(place, 0) for sink in sinks) for place in set().union(*sinks)}


class IngestionLoop:
    """One consumer of all topics with its sinks."""

    def __init__(  # noqa: PLR0913 - one argument for each thing that it joins
        self,
        *,
        topics: Sequence[Topic],
        source: EventSource,
        dead_letters: DeadLetters,
        state: StreamState,
        sink: DeltaSink,
        push: PushStates,
        metrics: IngestionMetrics,
        clock: Clock,
        fault: Callable[[FaultPoint], None] = lambda _: None,
    ) -> None:
        """Join the parts; states that a crash left unpushed are pushed first."""
        self._topics = {topic.name: topic for topic in topics}
        self._source = source
        self._dead_letters = dead_letters
        self._state = state
        self._sink = sink
        self._push = push
        self._metrics = metrics
        self._clock = clock
        self._fault = fault
        self._reported = monotonic()
        self._push_states()

    def step(self) -> int:
        """One poll and all that follows from it; returns the number of records."""
        records = self._source.poll()
        if records:
            self._take(records)
        topic = self._sink.due(monotonic())
        if topic is not None:
            self._commit(topic)
        if monotonic() - self._reported >= _REPORT_SECONDS:
            self.report()
        return len(records)

    def positions(self) -> dict[Place, int]:
        """For each partition the next offset to read; every sink has been given what lies before."""
        return self._source.positions()

    def finish(self) -> None:
        """Commit what has gathered for the lake and report for the last time."""
        for topic in self._sink.pending():
            self._commit(topic)
        self._metrics.show(self._state.totals(), self._source.lag())
        self._source.show_last_progress(self._state.next_offsets())

    def report(self) -> None:
        """Bring the metrics and the offsets that Kafka shows up to date."""
        self._metrics.show(self._state.totals(), self._source.lag())
        self._source.show_progress(self._state.next_offsets())
        self._reported = monotonic()

    def _take(self, records: Sequence[Record]) -> None:
        known, new = self._split(records)
        decoded_new = decode_records(new, self._topics, now=self._clock.now())
        decoded = [*decode_records(known, self._topics, now=_ANY_TIME), *decoded_new]
        self._dead_letters.send([each for each in decoded_new if each.event is None])
        self._fault("dead letters sent")
        first = self._state.apply([self._arrival(each) for each in decoded])
        self._fault("state committed")
        self._push_states()
        self._fault("states pushed")
        now_ms = wall_seconds() * 1000
        self._metrics.add_delays(now_ms - each.record.produced_ms for each in decoded_new if each.event is not None)
        for each, is_first in zip(decoded, first, strict=True):
            record = each.record
            event = each.event if is_first else None
            self._sink.take(record.topic, record.partition, record.offset, event, size=len(record.value or b""))

    def _split(self, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """Records that the state has (the lake may not) and new ones; each partition stays in order."""
        reached = self._state.next_offsets()
        known: list[Record] = []
        new: list[Record] = []
        for record in records:
            is_known = record.offset < reached.get((record.topic, record.partition), 0)
            (known if is_known else new).append(record)
        return known, new

    def _arrival(self, decoded: Decoded) -> Arrival:
        record = decoded.record
        return Arrival(self._topics[record.topic], record.partition, record.offset, decoded.event)

    def _push_states(self) -> None:
        for view, rows in self._state.unpushed():
            self._push(view, rows)
        self._state.mark_pushed()

    def _commit(self, topic: str) -> None:
        self._sink.flush(topic, now=monotonic())
        self._fault("lake committed")
        # The lake has everything that was applied: only now may ids be forgotten.
        self._state.forget(topic)
