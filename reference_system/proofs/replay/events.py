"""A period of a dataset in the order of arrival: earlier events as history, then each event when it became known.

In: a lake and a period. Out: a lake with the events known before the period, and the period's events in order.
Invariant: events are ordered by the time at which they could be known; at equal times labels come first, because a
request at that time may use them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.events import Event, Topic
from reference_system.features.history.model_inputs import events_in_order
from reference_system.features.stream.state_rows import topics_of
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.use_cases import topic_named
from reference_system.windows import WindowedView

# Rows converted to records at a time: the objects of a whole period would take gigabytes.
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """The period [start, end) of a dataset, and the topic whose events send requests."""

    paths: StatePaths
    order: Path  # the order of the events in their source files; the live system has no such folder
    asking: Topic
    views: tuple[WindowedView, ...]
    start: datetime
    end: datetime

    @property
    def topics(self) -> list[Topic]:
        """Every topic that the views use; labels first."""
        names = {name for view in self.views for name in topics_of(view)}
        topics = [topic_named(name) for name in sorted(names)]
        return sorted(topics, key=lambda topic: topic.known_field == "event_timestamp")

    @property
    def reach(self) -> timedelta:
        """How far back an event can matter: the widest window, its tile, and the day that tails keep."""
        micros_back = max(view.horizon_micros + view.tile_micros for view in self.views) + 2 * MICROS_PER_DAY
        return timedelta(microseconds=micros_back)


def copy_history(period: Period, lake: Path) -> int:
    """Copy the events known before the period to an empty lake, as far back as windows reach; returns their number."""
    copied = 0
    for topic in period.topics:
        rows = _known(period, topic)
        past = rows.filter(pc.less(rows[topic.known_field], pa.scalar(period.start)))
        columns = {name: past[name] for name in topic.record.__struct_fields__}
        delta_lake.append(lake, topic, delta_lake.history_table(topic, columns), versions={})
        copied += past.num_rows
    return copied


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayEvent:
    """One event of the period, and whether it sends a request."""

    topic: Topic
    event: Event
    asks: bool


class Happenings:
    """The period's events in the order in which they became known."""

    def __init__(self, period: Period) -> None:
        """Read the period; records are created later, in batches."""
        self._asking = period.asking
        self._topics = period.topics
        self._tables = [_within(period, topic) for topic in self._topics]
        known = [
            table[topic.known_field].cast(pa.int64()).to_numpy()
            for topic, table in zip(self._topics, self._tables, strict=True)
        ]
        of = np.repeat(np.arange(len(known)), [len(times) for times in known])
        place = np.concatenate([np.arange(len(times)) for times in known])
        order = np.lexsort([place, of, np.concatenate(known)])
        self._of, self._place = of[order], place[order]

    def __len__(self) -> int:
        """The number of events."""
        return len(self._of)

    @property
    def asked(self) -> pa.Table:
        """The events that send requests, in order."""
        return self._tables[self._topics.index(self._asking)]

    def __iter__(self) -> Iterator[ReplayEvent]:
        """The events in order."""
        for first in range(0, len(self), _ROWS_AT_ONCE):
            yield from self._some(slice(first, first + _ROWS_AT_ONCE))

    def _some(self, chosen: slice) -> list[ReplayEvent]:
        of, place = self._of[chosen], self._place[chosen]
        found: list[ReplayEvent | None] = [None] * len(of)
        for number, (topic, table) in enumerate(zip(self._topics, self._tables, strict=True)):
            where = np.flatnonzero(of == number)
            for at, event in zip(where.tolist(), _records(topic, table, place[where]), strict=True):
                found[at] = ReplayEvent(topic=topic, event=event, asks=topic is self._asking)
        return [each for each in found if each is not None]


def _records(topic: Topic, table: pa.Table, places: NDArray[np.int64]) -> Iterator[Event]:
    for row in table.take(pa.array(places)).to_pylist():
        yield topic.record(**row)


def _known(period: Period, topic: Topic) -> pa.Table:
    """The counted rows of a topic in the period and before it, as far back as windows reach."""
    columns = topic.record.__struct_fields__
    rows = delta_lake.read(
        period.paths.lake, topic, start=period.start - period.reach, end=period.end, columns=columns, counted_only=True
    )
    return rows.read_all()


def _within(period: Period, topic: Topic) -> pa.Table:
    """The counted rows of a topic that became known in the period, in order."""
    if topic is period.asking:
        events = events_in_order(period.paths.lake, topic, period.order)
        events = events.filter(pc.invert(events[delta_lake.LATE])).select(topic.record.__struct_fields__)
    else:
        events = _known(period, topic)
    known = events[topic.known_field].cast(pa.int64())
    return events.filter(
        pc.and_(pc.greater_equal(known, micros(period.start)), pc.less(known, micros(period.end)))
    ).combine_chunks()
