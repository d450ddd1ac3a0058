"""The sink of the lake: events gather here and are committed together with the offsets they reach.

In: records in the order of their partitions, each with its event or with nothing to keep. Out: commits of the lake,
one topic at a time.
Invariant: what the lake already holds is ignored, so reading a topic again adds no row. An offset also moves past
records that leave no row (refused, duplicate).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reference_system.events import Event, Topic
from reference_system.lake.delta_lake import append, committed_offsets, to_table

# A commit costs about as much for one row as for a thousand, and its files must be compacted: seldom is cheaper.
FLUSH_SECONDS = 5.0
# Catching up: bounds the memory, whatever the size of the events.
FLUSH_ROWS = 20_000
FLUSH_BYTES = 16 * 1024 * 1024


@dataclass(slots=True, kw_only=True)
class _Buffer:
    """One topic's events since its last commit."""

    committed: dict[int, int]
    since: float
    events: list[Event] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    late: list[bool] = field(default_factory=list)
    reached: dict[int, int] = field(default_factory=dict)
    size: int = 0


class DeltaSink:
    """Buffers of all topics over one lake."""

    def __init__(self, lake: Path, topics: Sequence[Topic], *, now: float) -> None:
        """Read from the lake how far it is; `now` is in seconds of any steady clock, as in `due`."""
        self._lake = lake
        self._topics = {topic.name: topic for topic in topics}
        self._buffers = {topic.name: _Buffer(committed=committed_offsets(lake, topic), since=now) for topic in topics}

    def next_offsets(self) -> dict[tuple[str, int], int]:
        """For each partition that the lake knows the first offset that it has not committed."""
        return {
            (topic, partition): offset + 1
            for topic, buffer in self._buffers.items()
            for partition, offset in buffer.committed.items()
        }

    def take(  # noqa: PLR0913 - parallel columns
        self,
        topic: str,
        partition: int,
        offsets: Sequence[int],
        events: Sequence[Event],
        late: Sequence[bool],
        *,
        size: int,
    ) -> None:
        """Accept the next rows of a partition.

        Args:
            topic: whose records they are.
            partition: where they stood.
            offsets: of each event, ascending.
            events: those that belong in the lake.
            late: of each event, whether it came too late for windows.
            size: roughly how many bytes they are.
        """
        buffer = self._buffers[topic]
        held = bisect_right(offsets, buffer.committed.get(partition, -1))
        buffer.events += events[held:]
        buffer.late += late[held:]
        buffer.offsets += offsets[held:]
        buffer.partitions += [partition] * (len(events) - held)
        buffer.size += size

    def reach(self, topic: str, partition: int, offset: int) -> None:
        """Note the last offset of a partition whose rows were all given to `take`."""
        buffer = self._buffers[topic]
        if offset > buffer.committed.get(partition, -1):
            buffer.reached[partition] = offset

    def due(self, now: float) -> str | None:
        """The topic whose commit is most urgent, if one is due."""
        waiting = [(buffer.since, topic) for topic, buffer in self._buffers.items() if self._is_due(buffer, now)]
        return min(waiting)[1] if waiting else None

    def pending(self) -> list[str]:
        """The topics with something to commit."""
        return [topic for topic, buffer in self._buffers.items() if buffer.reached]

    def flush(self, topic: str, *, now: float) -> int:
        """Commit a topic's buffer; return how many rows that added."""
        buffer = self._buffers[topic]
        rows = to_table(self._topics[topic], buffer.events, buffer.partitions, buffer.offsets, buffer.late)
        append(self._lake, self._topics[topic], rows, versions=buffer.reached)
        self._buffers[topic] = _Buffer(committed={**buffer.committed, **buffer.reached}, since=now)
        return len(buffer.events)

    @staticmethod
    def _is_due(buffer: _Buffer, now: float) -> bool:
        full = len(buffer.events) >= FLUSH_ROWS or buffer.size >= FLUSH_BYTES
        return bool(buffer.reached) and (full or now - buffer.since >= FLUSH_SECONDS)
