"""What a feature is: declarations, and their meaning at the moment of a request.

A windowed feature is two sums over an entity's past: `numerator` over `(t - delay - days, t - delay]`, divided by
`denominator` over the same window where there is one. Everything the platform needs follows from that:

- history: SQL window frames over the lake (`features/duckdb_history.py`);
- stream: a `Tail`, the entity's recent rows, kept up by ingestion and pushed to the online store;
- request: `evaluate(view, tail, as_of)`, so that a window that has emptied since the last event is empty.

A view with a `tile` (busy entities) moves every row to the end of its tile: an event counts from the end of its
tile on, in history and online alike, and a tail holds at most `horizon / tile` rows.

In: declarations of the use cases. Out: float64 values. Invariant: times are integer microseconds, UTC; the edges of
a window are exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)

# The entity of a view that belongs to nobody in particular (the newest videos, for example).
EVERYONE = "all"

Floats = NDArray[np.float64]
Micros = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Is:
    """A row value that is 1 where `field` equals `value` and 0 elsewhere."""

    field: str
    value: str


# A row value: a constant, the name of a numeric field of the event, or an indicator.
Value = float | str | Is


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How the events of one topic become rows `(entity, event_timestamp, values)` of a view."""

    topic: str
    values: tuple[tuple[str, Value], ...]
    entity: str  # the field with the entity's key
    explode: bool = False  # the field is a list: one row for each of its elements
    known_within_days: float | None = None  # rows from labels: used only if created that soon after the event


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One windowed feature (see the module docstring). Build it with `count`, `total` or `ratio`."""

    name: str
    numerator: str
    denominator: str | None
    days: float
    delay_days: float = 0.0

    @property
    def width_micros(self) -> int:
        """The window's width in microseconds."""
        return round(self.days * MICROS_PER_DAY)

    @property
    def delay_micros(self) -> int:
        """How far the window's end lies before the request, in microseconds."""
        return round(self.delay_days * MICROS_PER_DAY)


def total(name: str, value: str, *, days: float, delay_days: float = 0.0) -> Window:
    """The sum of `value` over the window (a count, where the value is 1 for each event)."""
    return Window(name=name, numerator=value, denominator=None, days=days, delay_days=delay_days)


def ratio(name: str, value: str, per: str, *, days: float, delay_days: float = 0.0) -> Window:
    """The sum of `value` divided by the sum of `per` over the window (a mean or a rate); 0 if it is empty."""
    return Window(name=name, numerator=value, denominator=per, days=days, delay_days=delay_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The windows of a view as arrays: distinct edges, and for each feature where its two sums stand.

    `edges` has shape (e, 2): how far before the request a window begins and ends, in microseconds. The others have
    shape (len(windows),): the row of `edges`, the column of the numerator, and of the denominator (-1: none).
    """

    edges: Micros
    edge: NDArray[np.int64]
    numerator: NDArray[np.int64]
    denominator: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)  # no slots: what is derived is kept, because every event asks for it
class WindowedView:
    """Features of one entity over windows of its past.

    `asked_by` names the topic and field whose events ask for the value: the moments at which history computes it.
    `None` for tiled views: their values change only at tile ends, so history computes them there.
    """

    name: str
    entity: str
    rows: tuple[Rows, ...]
    windows: tuple[Window, ...]
    asked_by: Rows | None = None
    tile: timedelta | None = None

    def __post_init__(self) -> None:
        """Refuse windows that end inside a tile: values would change between two tile ends."""
        edges = [edge for window in self.windows for edge in (window.width_micros, window.delay_micros)]
        if self.tile_micros and any(edge % self.tile_micros for edge in edges):
            raise ValueError(f"{self.name}: widths and delays must be whole tiles of {self.tile}")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of a row's values, sorted: the column order of a `Tail`."""
        return tuple(sorted({name for rows in self.rows for name, _ in rows.values}))

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The names of the features, in the order of `evaluate`."""
        return tuple(window.name for window in self.windows)

    @cached_property
    def plan(self) -> Plan:
        """What `evaluate` needs, worked out once."""
        columns = self.columns
        edges = sorted({(w.width_micros + w.delay_micros, w.delay_micros) for w in self.windows})
        return Plan(
            edges=np.array(edges, np.int64),
            edge=np.array([edges.index((w.width_micros + w.delay_micros, w.delay_micros)) for w in self.windows]),
            numerator=np.array([columns.index(w.numerator) for w in self.windows]),
            denominator=np.array(
                [-1 if w.denominator is None else columns.index(w.denominator) for w in self.windows]
            ),
        )

    @cached_property
    def horizon_micros(self) -> int:
        """How far back a request may look."""
        return max(window.width_micros + window.delay_micros for window in self.windows)

    @cached_property
    def tile_micros(self) -> int:
        """The tile's length in microseconds; 0 for exact views."""
        return 0 if self.tile is None else self.tile // _MICRO


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentItems:
    """The last `length` items of an entity (newest first): what a viewer watched, which videos are new."""

    name: str
    entity: str | None  # None: one list for everyone, under the key `EVERYONE`
    topic: str
    item: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The fields of an entity's latest event."""

    name: str
    entity: str
    topic: str
    fields: tuple[str, ...]


View = WindowedView | RecentItems | Profile


@dataclass(frozen=True, slots=True)
class Tail:
    """An entity's recent rows: what the online store holds for a windowed view.

    `times` has shape (n,), ascending, microseconds; `values` has shape (n, len(view.columns)).
    """

    times: Micros
    values: Floats

    def pack(self) -> bytes:
        """Bytes: the times, then the values, little-endian; their number follows from the view."""
        return self.times.astype("<i8").tobytes() + self.values.astype("<f8").tobytes()


def empty_tail(view: WindowedView) -> Tail:
    """The tail of an entity that nothing is known of."""
    return Tail(np.empty(0, np.int64), np.empty((0, len(view.columns)), np.float64))


def unpack_tail(view: WindowedView, data: bytes | None) -> Tail:
    """The inverse of `Tail.pack`; `None` or no bytes give an empty tail.

    Raises:
        ValueError: if the bytes are not a whole number of rows of this view.
    """
    if not data:
        return empty_tail(view)
    width = len(view.columns)
    count, rest = divmod(len(data), 8 * (1 + width))
    if rest:
        raise ValueError(f"{view.name}: {len(data)} bytes are no whole number of rows of {width} values")
    times = np.frombuffer(data, "<i8", count)
    values = np.frombuffer(data, "<f8", count * width, offset=8 * count).reshape(count, width)
    return Tail(times, values)


def micros(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime."""
    return (moment - _EPOCH) // _MICRO


def moment_of(time: int) -> datetime:
    """The inverse of `micros`: an aware UTC datetime."""
    return _EPOCH + time * _MICRO


def row_time(view: WindowedView, time: int) -> int:
    """The time from which an event at `time` counts: itself, or the end of its tile."""
    tile = view.tile_micros
    return time if not tile else -(-time // tile) * tile


def extend(view: WindowedView, tail: Tail, times: Micros, values: Floats) -> Tail:
    """The tail with more rows: sorted, merged per tile, and nothing older than the horizon.

    Args:
        view: the declaration.
        tail: what was known.
        times: shape (m,), event times in microseconds, any order.
        values: shape (m, len(view.columns)).
    """
    if not len(times):
        return tail
    tile = view.tile_micros
    if tile:
        times = -(-times // tile) * tile
    all_times = np.concatenate([tail.times, times])
    all_values = np.concatenate([tail.values, values])
    order = np.argsort(all_times, kind="stable")
    all_times, all_values = all_times[order], all_values[order]
    if tile:
        all_times, starts = np.unique(all_times, return_index=True)
        all_values = np.add.reduceat(all_values, starts, axis=0)
    # One more day than the horizon: a request or a late event may look from slightly before the newest row.
    oldest = all_times[-1] - view.horizon_micros - MICROS_PER_DAY
    keep = int(np.searchsorted(all_times, oldest, side="right"))
    return Tail(all_times[keep:], all_values[keep:])


def evaluate(view: WindowedView, tail: Tail, as_of: int, own: Mapping[str, float] | None = None) -> Floats:
    """The view's features at `as_of`.

    Args:
        view: the declaration.
        tail: the entity's recent rows.
        as_of: the moment of the request, microseconds.
        own: the row of the request itself, which windows without delay include.

    Returns:
        Shape (len(view.windows),), in the order of `view.features`.
    """
    plan = view.plan
    bounds = np.searchsorted(tail.times, as_of - plan.edges, side="right")
    own_row = None if own is None else np.array([own.get(name, 0.0) for name in view.columns])
    sums = np.empty((len(plan.edges), len(view.columns)))
    for i, (first, last) in enumerate(bounds):
        sums[i] = tail.values[first:last].sum(axis=0)
        if own_row is not None and not plan.edges[i, 1]:
            sums[i] += own_row
    values: Floats = sums[plan.edge, plan.numerator]
    ratios = plan.denominator >= 0
    per = sums[plan.edge[ratios], plan.denominator[ratios]]
    values[ratios] = np.divide(values[ratios], per, out=np.zeros_like(per), where=per != 0.0)
    return values


def rows_of(view: WindowedView, topic: str, event: Any) -> Iterator[tuple[str, int, Floats]]:  # noqa: ANN401
    """The rows that one event of `topic` adds to the view: (entity key, event time, values).

    `event` is a decoded record of the topic: its fields are read by the names that the declaration gives.
    """
    columns = view.columns
    for rows in view.rows:
        if rows.topic != topic:
            continue
        if rows.known_within_days is not None:
            known_after = event.created_timestamp - event.event_timestamp
            if known_after > timedelta(days=rows.known_within_days):
                continue
        values = np.zeros(len(columns))
        for name, value in rows.values:
            values[columns.index(name)] = _read(event, value)
        keys = getattr(event, rows.entity)
        for key in keys if rows.explode else (keys,):
            yield key, micros(event.event_timestamp), values


def _read(event: Any, value: Value) -> float:  # noqa: ANN401
    if isinstance(value, Is):
        return float(getattr(event, value.field) == value.value)
    if isinstance(value, str):
        return float(getattr(event, value))
    return value
