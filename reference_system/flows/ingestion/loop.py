"""The loop of ingestion: Kafka → dead letters, task states, online store and lake.

In: records of all topics, of the tasks that this consumer owns. Out: each valid event once in the lake and once in
the windows, refused bytes on their dead-letter topic, states in the online store.
Invariant: a crash between any two lines loses nothing and counts nothing twice. Each sink remembers its own offsets
with its own data; reading starts at the smallest of them and each sink ignores what it has.

The order within a step: refused bytes are safe on the dead-letter topic before the offsets move past them; rows for
other tasks are sent after they are durable in the outbox, and stay there until the broker has them; states are
pushed after they are durable (they stay marked until then); the lake follows in larger commits, after the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from time import monotonic
from typing import Literal

import msgspec

from reference_system.clock import Clock, wall_seconds
from reference_system.errors import StateError
from reference_system.events import REPARTITION_TOPIC, Event, PartitionKey, Topic
from reference_system.features.stream.deduplication import Outcome, PolledBatch
from reference_system.features.stream.forwarding import Forwarded, decode_forwarded
from reference_system.features.stream.state import StreamState
from reference_system.ingestion.dead_letters.kafka_writer import DeadLetters
from reference_system.ingestion.decode import Decoded, KafkaRecord, decode_records
from reference_system.ingestion.delta_sink import DeltaSink
from reference_system.ingestion.kafka_consumer import EventSource
from reference_system.ingestion.kafka_repartition import RowForwarder
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.states import StateRow
from reference_system.windows import View

# Places where a drill stops the loop as a kill would.
FaultPoint = Literal["dead letters sent", "state committed", "rows forwarded", "states pushed", "lake committed"]
PushStates = Callable[[View, Sequence[StateRow]], None]

_REPORT_SECONDS = 1.0
# With so many records waiting, the same entities change again with the next poll: they are pushed this often.
_BEHIND_RECORDS = 1_000
_PUSH_SECONDS = 2.0
# More than this in the outboxes: wait for the broker, so that they stay small.
_OUTBOX_RECORDS = 64
# The clock classified these records when they were new; their classification is in the state and cannot change.
_ANY_TIME = datetime(9999, 1, 1, tzinfo=UTC)

# What the lake keeps: an event once, late or not.
_FACTS = (Outcome.COUNTED, Outcome.LATE)


def starts(*sinks: Mapping[PartitionKey, int]) -> dict[PartitionKey, int]:
    """For each partition the smallest next offset of any sink; a sink that does not know one needs it all."""
    return {place: min(sink.get(place, 0) for sink in sinks) for place in set().union(*sinks)}


class IngestionLoop:
    """One consumer of all topics, with its tasks and sinks."""

    def __init__(  # noqa: PLR0913 - one argument for each thing that it joins
        self,
        *,
        topics: Sequence[Topic],
        source: EventSource,
        dead_letters: DeadLetters,
        tasks: Mapping[int, StreamState],
        forwarder: RowForwarder,
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
        self._tasks = tasks
        self._forwarder = forwarder
        self._sink = sink
        self._push = push
        self._metrics = metrics
        self._clock = clock
        self._fault = fault
        self._reported = self._pushed = monotonic()
        self._produced_ms: list[float] = []
        self._push_states()

    def step(self) -> int:
        """One poll and all that follows from it; returns the number of records."""
        polled = self._source.poll()
        count = sum(map(len, polled.values()))
        if polled:
            self._take(polled)
        self._forward()
        behind = sum(self._source.lag().values()) > _BEHIND_RECORDS
        if not behind or monotonic() - self._pushed >= _PUSH_SECONDS:
            self._push_states()
        topic = self._sink.due(monotonic())
        if topic is not None:
            self._commit(topic)
        if monotonic() - self._reported >= _REPORT_SECONDS:
            self.report()
        return count

    def positions(self) -> dict[PartitionKey, int]:
        """For each partition the next offset to read; every sink has been given what lies before."""
        return self._source.positions()

    def caught_up(self) -> bool:
        """Whether everything that the broker holds was taken, and nothing waits to be sent to other tasks."""
        return not any(state.outbox() for state in self._tasks.values()) and not self._source.waiting()

    def finish(self) -> None:
        """Send, push and commit what has gathered, and report for the last time."""
        self._empty_outboxes()
        self._push_states()
        for topic in self._sink.pending():
            self._commit(topic)
        self._metrics.show(self._totals(), self._source.lag())
        self._source.show_last_progress(self._progress())

    def report(self) -> None:
        """Bring the metrics and the offsets that Kafka shows up to date."""
        self._metrics.show(self._totals(), self._source.lag())
        self._source.show_progress(self._progress())
        self._reported = monotonic()

    def _take(self, polled: Mapping[PartitionKey, Sequence[KafkaRecord]]) -> None:
        now = self._clock.now()
        decoded: dict[int, dict[str, list[Decoded]]] = {}
        forwarded: dict[int, Sequence[KafkaRecord]] = {}
        refused: list[Decoded] = []
        for (topic, task), records in polled.items():
            if topic == REPARTITION_TOPIC:
                forwarded[task] = records
                continue
            known = self._known(topic, task, records)
            new = decode_records(records[known:], self._topics, now=now)
            refused += [each for each in new if each.event is None]
            before = decode_records(records[:known], self._topics, now=_ANY_TIME)
            decoded.setdefault(task, {})[topic] = [*before, *new]
            self._produced_ms += [each.record.produced_ms for each in new if each.event is not None]
        self._dead_letters.send(refused)
        self._fault("dead letters sent")
        for task in sorted(decoded.keys() | forwarded.keys()):
            self._apply(task, decoded.get(task, {}), forwarded.get(task, ()))
        self._fault("state committed")

    def _known(self, topic: str, task: int, records: Sequence[KafkaRecord]) -> int:
        """How many of the records the state has (the lake may not)."""
        reached = self._tasks[task].next_offsets().get(topic, 0)
        return 0 if records[0].offset >= reached else sum(record.offset < reached for record in records)

    def _apply(self, task: int, decoded: Mapping[str, list[Decoded]], forwarded: Sequence[KafkaRecord]) -> None:
        batches = [
            PolledBatch(self._topics[topic], [each.record.offset for each in found], [each.event for each in found])
            for topic, found in decoded.items()
        ]
        outcomes = self._tasks[task].apply(
            batches,
            forwarded=[_rows_of(record) for record in forwarded],
            forwarded_until=forwarded[-1].offset + 1 if forwarded else None,
        )
        for batch, verdicts in zip(batches, outcomes, strict=True):
            topic = batch.topic.name
            size = sum(len(each.record.value or b"") for each in decoded[topic])
            facts = [place for place, verdict in enumerate(verdicts) if verdict in _FACTS]
            offsets = [batch.offsets[place] for place in facts]
            events: list[Event] = [batch.events[place] for place in facts]  # type: ignore[misc] # facts: events
            late = [verdicts[place] is Outcome.LATE for place in facts]
            self._sink.take(topic, task, offsets, events, late, size=size)
            self._sink.reach(topic, task, batch.offsets[-1])

    def _forward(self, *, wait: bool = False) -> None:
        outboxes = {task: posts for task, state in self._tasks.items() if (posts := state.outbox())}
        if not outboxes:
            return
        self._forwarder.send(outboxes)
        wait = wait or sum(map(len, outboxes.values())) > _OUTBOX_RECORDS
        for task, number in self._forwarder.acknowledged(wait=wait).items():
            self._tasks[task].mark_sent(number)
            self._fault("rows forwarded")

    def _empty_outboxes(self) -> None:
        while any(state.outbox() for state in self._tasks.values()):
            self._forward(wait=True)

    def _push_states(self) -> None:
        changed: dict[str, tuple[View, list[StateRow]]] = {}
        for state in self._tasks.values():
            for view, rows in state.unpushed():
                changed.setdefault(view.name, (view, []))[1].extend(rows)
        for view, rows in changed.values():
            self._push(view, rows)
        for state in self._tasks.values():
            state.mark_pushed()
        if changed:
            self._fault("states pushed")
        now_ms = wall_seconds() * 1000
        self._metrics.add_delays(now_ms - produced for produced in self._produced_ms)
        self._produced_ms = []
        self._pushed = monotonic()

    def _commit(self, topic: str) -> None:
        """Commit to the lake while nobody can take over: a consumer that was replaced writes nothing.

        Rows for other tasks go first: a task that is built from the lake does not read again what the lake has, so
        nobody would ever send them.
        """
        self._empty_outboxes()
        with ExitStack() as held:
            for state in self._tasks.values():
                held.enter_context(state.fenced())
            self._sink.flush(topic, now=monotonic())
        self._fault("lake committed")
        # The lake has everything that was applied: only now may ids be forgotten.
        for state in self._tasks.values():
            state.forget(topic)

    def _totals(self) -> dict[tuple[str, str], int]:
        totals: dict[tuple[str, str], int] = {}
        for state in self._tasks.values():
            for key, count in state.totals().items():
                totals[key] = totals.get(key, 0) + count
        return totals

    def _progress(self) -> dict[PartitionKey, int]:
        return {(topic, task): n for task, state in self._tasks.items() for topic, n in state.next_offsets().items()}


def _rows_of(record: KafkaRecord) -> Forwarded:
    try:
        return decode_forwarded(record.value or b"")
    except msgspec.MsgspecError as error:
        raise StateError(
            f"{record.topic}-{record.partition} offset {record.offset} is no record of ours: {error}",
            next_command="workbook state rebuild",
        ) from error
