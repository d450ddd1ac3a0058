"""A poll on its way into a task's state: what its events add, and to whose entities.

In: classified batches and rows that other tasks sent. Out: additions by view and key for this task, rows for the
others.
Invariant: pure; where an addition goes depends on its entity's key alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reference_system.events import Event
from reference_system.features.stream.deduplication import Classification, PolledBatch, is_known_at_once
from reference_system.features.stream.forwarding import Channel, Forwarded, ForwardedRows, untaken
from reference_system.features.stream.kafka_keys import partition_of
from reference_system.features.stream.state_rows import Addition, is_keyed_by, microseconds, reader, topics_of
from reference_system.windows import View

# What a poll adds to one view: entity key → (newest moment at which any of it became known, additions).
Additions = dict[str, tuple[int, list[Addition]]]


@dataclass(slots=True, kw_only=True)
class Poll:
    """What a poll amounts to."""

    classified: list[tuple[str, Classification]]
    following: dict[str, int]  # for each topic the next offset afterwards
    taken: dict[Channel, int]  # how far the rows of other tasks are taken afterwards
    additions: dict[str, Additions] = field(default_factory=dict)
    away: dict[int, dict[tuple[str, str], ForwardedRows]] = field(default_factory=dict)

    def take(self, record: Forwarded) -> None:
        """Add what another task sent and was not taken yet."""
        for rows in record.rows:
            mine = self.additions.setdefault(rows.view, {})
            for key, known, addition in untaken(record, rows, self.taken):
                _add(mine, key, known, addition)
        for topic, offset in record.reached.items():
            channel = (record.source, topic)
            self.taken[channel] = max(offset, self.taken.get(channel, 0))

    def rows_for(self, target: int, view: str, topic: str) -> ForwardedRows:
        """Where rows for another task gather."""
        rows = self.away.setdefault(target, {})
        if (view, topic) not in rows:
            rows[view, topic] = ForwardedRows(view=view, topic=topic)
        return rows[view, topic]


class Collector:
    """Sorts what events add: for this task, and for the others."""

    def __init__(self, views: Sequence[View], *, task: int, tasks: int) -> None:
        """Work out which view reads which topic, and whether the rows stay."""
        self._task, self._tasks = task, tasks
        topics = sorted({topic for view in views for topic in topics_of(view)})
        self._readers = {
            topic: [
                (view, reader(view, topic), is_keyed_by(view, topic)) for view in views if topic in topics_of(view)
            ]
            for topic in topics
        }
        # The topics with rows for other tasks.
        self.forwarded = [topic for topic, found in self._readers.items() if not all(here for _, _, here in found)]

    def collect(self, batch: PolledBatch, classification: Classification, poll: Poll) -> None:
        """Add what the counted events of a batch mean for every view."""
        topic, places, known = batch.topic.name, classification.counted, classification.known
        events: list[Event] = [batch.events[place] for place in places]  # type: ignore[misc] # counted: an event
        times = known if is_known_at_once(batch.topic) else [microseconds(each.event_timestamp) for each in events]
        for view, read, here in self._readers.get(topic, ()):
            mine = poll.additions.setdefault(view.name, {})
            if here:
                for key, place, addition in read(events, times):
                    _add(mine, key, known[place], addition)
                continue
            for key, place, addition in read(events, times):
                target = partition_of(key, self._tasks)
                if target == self._task:
                    _add(mine, key, known[place], addition)
                else:
                    rows = poll.rows_for(target, view.name, topic)
                    rows.keys.append(key)
                    rows.offsets.append(batch.offsets[places[place]])
                    rows.known.append(known[place])
                    rows.additions.append(addition)


def _add(additions: Additions, key: str, known: int, addition: Addition) -> None:
    found = additions.get(key)
    if found is None:
        additions[key] = (known, [addition])
    else:
        found[1].append(addition)
        if known > found[0]:
            additions[key] = (known, found[1])
