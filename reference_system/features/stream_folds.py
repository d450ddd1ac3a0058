"""Folds: an entity's state and its new events give its next state.

In: counted events of one batch. Out: for each view and entity key the bytes that the online store will hold.
Invariant: folding events one by one or in batches, in any order within the lateness bound, gives the same state up to
the rounding of sums; the bytes have the shape that `duckdb_snapshot.states` gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
import numpy as np

from reference_system.events import Event
from reference_system.windows import (
    EVERYONE,
    Floats,
    Profile,
    RecentItems,
    View,
    WindowedView,
    extend,
    micros,
    rows_of,
    unpack_tail,
)

# What one event adds to one state: a row of a window, an item, or the fields of a profile.
Addition = Floats | str | dict[str, float | int | str]

_pack = msgspec.msgpack.Encoder().encode
_unpack_items = msgspec.msgpack.Decoder(list[tuple[int, str]]).decode


@dataclass(slots=True)
class Additions:
    """What a batch adds to one state: parallel lists, and the newest moment at which any of it became known."""

    known: int
    times: list[int] = field(default_factory=list)
    values: list[Addition] = field(default_factory=list)


def known_at(event: Event) -> int:
    """When we could know of the event, microseconds: its `created_timestamp` if it has one."""
    moment: datetime = getattr(event, "created_timestamp", event.event_timestamp)
    return micros(moment)


def topics_of(view: View) -> frozenset[str]:
    """The topics whose events change the view's states."""
    if isinstance(view, WindowedView):
        return frozenset(rows.topic for rows in view.rows)
    return frozenset((view.topic,))


def add_event(view: View, topic: str, event: Event, known: int, batch: dict[str, Additions]) -> None:
    """Add what the event means for the view to the batch (entity key → additions)."""
    for key, time, value in _additions(view, topic, event):
        found = batch.get(key)
        if found is None:
            found = batch[key] = Additions(known)
        found.known = max(found.known, known)
        found.times.append(time)
        found.values.append(value)


def _additions(view: View, topic: str, event: Any) -> Iterator[tuple[str, int, Addition]]:  # noqa: ANN401 - fields are read by declared name
    match view:
        case WindowedView():
            yield from rows_of(view, topic, event)
        case RecentItems():
            key = EVERYONE if view.entity is None else getattr(event, view.entity)
            yield key, micros(event.event_timestamp), getattr(event, view.item)
        case Profile():
            fields = {name: _plain(getattr(event, name)) for name in view.fields}
            yield getattr(event, view.entity), micros(event.event_timestamp), fields


def _plain(value: Any) -> float | int | str:  # noqa: ANN401 - any field of a record
    plain: float | int | str = micros(value) if isinstance(value, datetime) else value
    return plain


def fold(view: View, state: bytes | None, time: int, additions: Additions) -> bytes:
    """The next state.

    Args:
        view: the declaration.
        state: the state so far; `None` for an entity that is met for the first time.
        time: the newest moment that went into `state`.
        additions: what the batch adds.
    """
    match view:
        case WindowedView():
            return _fold_rows(view, state, additions)
        case RecentItems():
            return _fold_items(view, state, additions)
        case Profile():
            return _fold_profile(state, time, additions)


def _fold_rows(view: WindowedView, state: bytes | None, additions: Additions) -> bytes:
    times = np.array(additions.times, np.int64)
    values = np.array(additions.values, np.float64)
    return extend(view, unpack_tail(view, state), times, values).pack()


def _fold_items(view: RecentItems, state: bytes | None, additions: Additions) -> bytes:
    newest: dict[str, int] = {item: time for time, item in (_unpack_items(state) if state else ())}
    for time, item in zip(additions.times, additions.values, strict=True):
        name = str(item)
        newest[name] = max(time, newest.get(name, time))
    ordered = sorted(newest.items(), key=lambda pair: (-pair[1], pair[0]))
    return _pack([(time, item) for item, time in ordered[: view.length]])


def _fold_profile(state: bytes | None, time: int, additions: Additions) -> bytes:
    latest = _latest(additions.times)
    return state if state is not None and additions.times[latest] < time else _pack(additions.values[latest])


def _latest(times: Sequence[int]) -> int:
    """The index of the newest; among equals the one that came last."""
    return max(range(len(times)), key=lambda index: (times[index], index))
