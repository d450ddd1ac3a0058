"""Rows: what events add to the states of a view, a batch of one topic at a time.

In: counted events of one topic, with the moment at which each could be known. Out: additions by entity key, for the
task that owns the key.
Invariant: an event gives the same additions in whatever batch it comes; the order within a batch is kept.

An addition is a tuple that begins with a time in microseconds: `(time, *values)` for a window (in the order of
`view.columns`), a `Report` for rows of a window that count once, `(time, item)` for recent items, `(time, fields)` for
a profile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import repeat
from math import floor
from operator import attrgetter
from typing import Any

from reference_system.event_time import MICROS_PER_DAY
from reference_system.events import Event
from reference_system.use_cases import topic_named
from reference_system.windows import (
    EVERYONE,
    SNAP,
    Is,
    LatestFields,
    RecentItems,
    Rows,
    Value,
    View,
    WindowedView,
)

Addition = tuple[Any, ...]
# entity key, its place in the batch, addition
Keyed = tuple[str, int, Addition]
# From events of a topic and their event times (µs) to what they add to a view.
Reader = Callable[[Sequence[Event], Sequence[int]], Iterator[Keyed]]

_event_times = attrgetter("event_timestamp")


def microseconds(moment: datetime) -> int:
    """Microseconds since the epoch; faster than exact integer arithmetic, and as exact for any year before 2106."""
    return round(moment.timestamp() * 1e6)


def topics_of(view: View) -> frozenset[str]:
    """The topics whose events change the view's states."""
    if isinstance(view, WindowedView):
        return frozenset(topic for rows in view.rows for topic in rows.topics)
    return frozenset((view.topic,))


def is_keyed_by(view: View, topic: str) -> bool:
    """Whether the view's entity is the topic's key: then the task that reads an event owns what it changes."""
    key = topic_named(topic).key
    if isinstance(view, WindowedView):
        return all(rows.entity == key and not rows.explode for rows in view.rows if topic in rows.topics)
    return view.entity == key


def reader(view: View, topic: str) -> Reader:
    """A function from events of the topic to what they add to the view."""
    match view:
        case WindowedView():
            specs = [rows for rows in view.rows if topic in rows.topics]
            readers = [_window_reader(view, rows) if rows.once is None else _reports(rows, topic) for rows in specs]
            if len(readers) == 1:
                return readers[0]
            return lambda events, times: (keyed for read in readers for keyed in read(events, times))
        case RecentItems():
            keys = _keys(view.entity)
            item = attrgetter(view.item)
            return lambda events, times: zip(
                keys(events), range(len(events)), zip(times, map(item, events), strict=True), strict=True
            )
        case LatestFields():
            keys = _keys(view.entity)
            return lambda events, times: zip(
                keys(events),
                range(len(events)),
                zip(times, (_fields(event, view.fields) for event in events), strict=True),
                strict=True,
            )


def _keys(entity: str | None) -> Callable[[Sequence[Event]], Iterator[str]]:
    if entity is None:
        return lambda events: iter([EVERYONE] * len(events))
    get = attrgetter(entity)
    return lambda events: map(get, events)


def _fields(event: Any, names: Sequence[str]) -> dict[str, float | int | str]:  # noqa: ANN401 - read by declared name
    return {name: _plain(getattr(event, name)) for name in names}


def _plain(value: Any) -> float | int | str:  # noqa: ANN401 - any field of a record
    plain: float | int | str = microseconds(value) if isinstance(value, datetime) else value
    return plain


def _window_reader(view: WindowedView, rows: Rows) -> Reader:
    values = dict(rows.values)
    columns = [_column(values.get(name, 0.0), snap=bool(view.tile_micros)) for name in view.columns]
    tile, key, in_time = view.tile_micros, attrgetter(rows.entity), _in_time(rows)

    def read(events: Sequence[Event], times: Sequence[int]) -> Iterator[Keyed]:
        places = in_time(events, times)
        if len(places) < len(events):
            events, times = [events[i] for i in places], [times[i] for i in places]
        if tile:
            times = [-(-time // tile) * tile for time in times]
        additions = zip(times, *(column(events) for column in columns), strict=False)  # constants never end
        if rows.explode:
            for keys, place, addition in zip(map(key, events), places, additions, strict=False):
                for each in keys:
                    yield each, place, addition
        else:
            yield from zip(map(key, events), places, additions, strict=False)

    return read


def _reports(rows: Rows, topic: str) -> Reader:
    """Reports of facts, or what takes them back, which may come at any time."""
    once = rows.once
    if once is None:
        raise ValueError(f"{rows.topic}: these rows count as often as they come")
    takes_back = topic == once.taken_back_by
    key, about, report = (attrgetter(name) for name in (rows.entity, once.per, topic_named(rows.topic).event_id))
    in_time = _in_time(replace(rows, known_within_days=None) if takes_back else rows)

    def read(events: Sequence[Event], times: Sequence[int]) -> Iterator[Keyed]:
        for place in in_time(events, times):
            event = events[place]
            yield key(event), place, (times[place], about(event), report(event), takes_back)

    return read


def _in_time(rows: Rows) -> Callable[[Sequence[Event], Sequence[int]], Sequence[int]]:
    """The places of the events that were known soon enough to count."""
    if rows.known_within_days is None:
        return lambda events, _: range(len(events))
    bound, known = round(rows.known_within_days * MICROS_PER_DAY), attrgetter("created_timestamp")
    return lambda events, times: [
        place
        for place, (event, time) in enumerate(zip(events, times, strict=True))
        if microseconds(known(event)) - time <= bound
    ]


def _column(value: Value, *, snap: bool) -> Callable[[Sequence[Event]], Iterable[float]]:
    if isinstance(value, Is):
        get, wanted = attrgetter(value.field), value.value
        return lambda events: [float(get(event) == wanted) for event in events]
    if isinstance(value, str):
        get = attrgetter(value)
        if snap:
            return lambda events: [floor(get(event) * SNAP + 0.5) / SNAP for event in events]
        # Adding zero makes an integer a float, and a negative zero a positive one.
        return lambda events: [get(event) + 0.0 for event in events]
    return lambda _: repeat(value)
