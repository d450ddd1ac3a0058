"""A task's state: what it has consumed and what that amounts to.

Task p reads partition p of every topic and owns every entity whose key hashes to p (`features/stream/kafka_keys.py`).

In: the records of one poll, in the order of each topic. Out: what became of each; states to push; rows to forward.
Invariant: one transaction of the task's file holds a poll's offsets, event ids, totals, states and outbox, so after a
crash either all of the poll happened or none of it; records that were applied before change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reference_system.events import REPARTITION_TOPIC
from reference_system.features.stream.deduplication import (
    HORIZON_MICROS,
    Classification,
    Outcome,
    PolledBatch,
    classify,
)
from reference_system.features.stream.forwarding import Channel, Forwarded, encode_forwarded
from reference_system.features.stream.poll import Collector, Poll
from reference_system.features.stream.state_updates import fold
from reference_system.features.stream.task_file import TaskFile
from reference_system.states import PostedRow, StateRow
from reference_system.windows import View

# States that a task keeps in memory, because the next poll asks for the same entities again.
_CACHE_BYTES = 32 * 1024 * 1024
# Ids are dropped when the event time has moved on by this much: a drop reads them all.
_FORGET_EVERY_MICROS = HORIZON_MICROS // 14


class StreamState:
    """The state of one task over its open file; `stream_rebuild` makes one."""

    def __init__(self, path: Path, views: Sequence[View], *, task: int, tasks: int) -> None:
        """Open the file and take it over.

        Args:
            path: the task's file.
            views: the declarations.
            task: the task's number, which is that of its partitions.
            tasks: how many there are.

        Raises:
            StateError: if it cannot be read.
        """
        self.task = task
        self._views = {view.name: view for view in views}
        self._collector = Collector(views, task=task, tasks=tasks)
        self._file = TaskFile(path, task)
        held = self._file.held
        self._next, self._newest, self._taken, self._totals = held.positions, held.newest, held.taken, held.totals
        self._outbox, self._sent = held.outbox, held.outbox[0][0] - 1 if held.outbox else 0
        self._pushed, self._base = held.pushed, held.base
        self._unpushed: dict[str, dict[str, StateRow]] = {}
        for view, row in self._file.unpushed(held.pushed):
            self._unpushed.setdefault(view, {})[row[0]] = row
        self._forgotten = dict(self._newest)
        self._cache: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._cached = 0

    def close(self) -> None:
        """Close the file; what was pushed and sent is remembered, unless another consumer has taken over."""
        self._file.close(pushed=self._pushed, sent=self._sent)

    def next_offsets(self) -> dict[str, int]:
        """For each topic that was ever read the first offset that was not."""
        return dict(self._next)

    def totals(self) -> dict[tuple[str, str], int]:
        """How many events of each topic had each outcome, ever."""
        return dict(self._totals)

    @property
    def sequence(self) -> int:
        """The task's progress: it grows with every event that counts, and never goes back, not even by a rebuild."""
        return self._sequence(self._next, self._taken)

    def _sequence(self, positions: Mapping[str, int], taken: Mapping[Channel, int]) -> int:
        own = sum(offset for topic, offset in positions.items() if topic != REPARTITION_TOPIC)
        return self._base + own + sum(taken.values())

    def apply(
        self,
        batches: Sequence[PolledBatch],
        *,
        forwarded: Sequence[Forwarded] = (),
        forwarded_until: int | None = None,
    ) -> list[list[Outcome]]:
        """Apply a poll in one transaction.

        Args:
            batches: the records of each topic, at most one batch a topic.
            forwarded: what other tasks sent.
            forwarded_until: the first offset of the repartition topic that was not read.

        Returns:
            What became of each record of each batch. For records that were applied before: the same as then.

        Raises:
            StateError: if another consumer has taken over the task.
        """
        with self._file.transaction():
            classified = [(batch.topic.name, self._classify(batch)) for batch in batches]
            poll = Poll(classified=classified, following=dict(self._next), taken=dict(self._taken))
            for batch, (topic, classification) in zip(batches, classified, strict=True):
                self._collector.collect(batch, classification, poll)
                poll.following[topic] = classification.next_offset
            for record in forwarded:
                poll.take(record)
            if forwarded_until is not None:
                poll.following[REPARTITION_TOPIC] = max(forwarded_until, self._next.get(REPARTITION_TOPIC, 0))
            changed = self._fold(poll)
            posted = self._write(poll, changed)
        self._remember(poll, changed, posted)
        return [classification.outcomes for _, classification in classified]

    def outbox(self) -> list[PostedRow]:
        """What is to be sent to other tasks, in order: (number, target task, record)."""
        return [each for each in self._outbox if each[0] > self._sent]

    def mark_sent(self, number: int) -> None:
        """Note that the broker has the outbox up to a number; durable with the next poll: it may be sent again."""
        self._sent = number

    def unpushed(self) -> list[tuple[View, list[StateRow]]]:
        """The states that the online store does not have yet, by view."""
        return [(self._views[view], list(rows.values())) for view, rows in self._unpushed.items() if rows]

    def mark_pushed(self) -> None:
        """Note that the online store has them all; durable with the next poll: pushing twice does no harm."""
        self._pushed = self.sequence
        self._unpushed = {}

    def forget(self, topic: str) -> None:
        """Drop the topic's ids that are beyond the horizon, now and then.

        Call it when the lake holds all that was applied: until then a restart needs the ids to tell which arrival
        was the first.
        """
        newest, before = self._newest.get(topic), self._forgotten.get(topic)
        if newest is None or (before is not None and newest - before < _FORGET_EVERY_MICROS):
            return
        with self._file.transaction():
            self._file.forget(topic, newest - HORIZON_MICROS)
        self._forgotten[topic] = newest

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Hold the task: nobody can take it over meanwhile.

        Raises:
            StateError: if somebody has.
        """
        with self._file.transaction():
            yield

    def _classify(self, batch: PolledBatch) -> Classification:
        topic = batch.topic.name
        ids = [batch.topic.id_of(event) for event in batch.events if event is not None]
        next_offset, newest = self._next.get(topic, 0), self._newest.get(topic)
        return classify(batch, next_offset=next_offset, newest=newest, seen=self._file.seen(topic, ids))

    def _fold(self, poll: Poll) -> dict[str, list[StateRow]]:
        sequence = self._sequence(poll.following, poll.taken)
        changed: dict[str, list[StateRow]] = {}
        for name, by_key in poll.additions.items():
            if not by_key:
                continue
            view, old = self._views[name], self._states(name, by_key)
            rows = changed[name] = []
            for key, (known, added) in by_key.items():
                time, state = old.get(key, (known, None))
                rows.append((key, max(time, known), sequence, fold(view, state, time, added)))
        return changed

    def _states(self, view: str, keys: Iterable[str]) -> dict[str, tuple[int, bytes]]:
        cache = self._cache
        found = {key: cache[view, key] for key in keys if (view, key) in cache}
        missing = [key for key in keys if key not in found]
        if missing:
            found |= {key: (time, state) for key, time, state in self._file.states(view, missing)}
        return found

    def _write(self, poll: Poll, changed: Mapping[str, Sequence[StateRow]]) -> list[PostedRow]:
        """Write everything; returns what is new in the outbox."""
        newest = self._newest | {topic: classification.newest for topic, classification in poll.classified}
        moved = [(t, offset, newest.get(t)) for t, offset in poll.following.items() if offset != self._next.get(t)]
        taken = {channel: offset for channel, offset in poll.taken.items() if offset != self._taken.get(channel)}
        self._file.write_positions(moved, taken)
        self._file.write_classified(poll.classified)
        self._file.write_states(changed)
        self._file.remember(pushed=self._pushed, sent=self._sent)
        reached = {topic: poll.following[topic] for topic in self._collector.forwarded if topic in poll.following}
        posted = []
        for target, rows in poll.away.items():
            record = Forwarded(source=self.task, reached=reached, rows=list(rows.values()))
            posted.append(self._file.post(target, encode_forwarded(record)))
        return posted

    def _remember(self, poll: Poll, changed: Mapping[str, Sequence[StateRow]], posted: Sequence[PostedRow]) -> None:
        """What is true once the transaction is."""
        self._next, self._taken = poll.following, poll.taken
        for topic, classification in poll.classified:
            self._newest[topic] = classification.newest
            self._totals.update({(topic, outcome): count for outcome, count in classification.totals.items()})
        self._outbox = [*self.outbox(), *posted]
        for view, rows in changed.items():
            unpushed = self._unpushed.setdefault(view, {})
            for row in rows:
                key, time, _, state = row
                unpushed[key] = row
                before = self._cache.get((view, key))
                self._cached += len(state) - (len(before[1]) if before else 0)
                self._cache[view, key] = (time, state)
        if self._cached > _CACHE_BYTES:
            self._cache, self._cached = {}, 0
