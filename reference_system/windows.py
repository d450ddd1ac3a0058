"""What a feature is: declarations, and their meaning at the moment of a request.

A windowed feature is two sums over an entity's past: `numerator` over `(t - delay - days, t - delay]`, divided by
`denominator` over the same window where there is one. Everything the platform needs follows from that:

- history: SQL window frames over the lake (`features/history/values.py`);
- stream: a `Tail`, the entity's recent rows, kept up by ingestion and pushed to the online store;
- request: `evaluate(view, tail, as_of)`, so that a window that has emptied since the last event is empty.

A view without a `tile` (quiet entities) is exact. A view with one (busy entities) moves every row to the end of its
tile, in history and online alike, so that a tail holds at most `(horizon + 1 day) / tile` rows. Its value is the exact
one of the last tile end: it differs from the exact one of the moment by at most what happened in the two parts of
tiles that lie between the edges of the one window and of the other.

In: declarations of the use cases. Out: float64 values. Invariant: times are integer microseconds, UTC; the edges of
a window are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import numpy as np

from reference_system import reported_rows
from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICRO, MICROS_PER_DAY
from reference_system.reported_rows import Once
from reference_system.window_sums import SumPlan, WindowSum, of_arrays, of_bytes, sum_plan

# Values of tiled views are multiples of 1/SNAP: their sums are exact, whatever the order in which they are added.
SNAP = 2**20

# The entity of a view that belongs to nobody in particular (the newest videos, for example).
EVERYONE = "all"


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
    once: Once | None = None  # many events may say the same, and others take it back

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics whose events change these rows."""
        return (self.topic,) if self.once is None else (self.topic, self.once.taken_back_by)


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
        """Refuse windows that end inside a tile: values would change between two tile ends.

        Rows that count once must be alike, whichever event reports the fact, and keep their own moments.
        """
        edges = [edge for window in self.windows for edge in (window.width_micros, window.delay_micros)]
        if self.tile_micros and any(edge % self.tile_micros for edge in edges):
            raise ValueError(f"{self.name}: widths and delays must be whole tiles of {self.tile}")
        once = [rows for rows in self.rows if rows.once is not None]
        unlike = any(rows.explode or any(isinstance(v, str | Is) for _, v in rows.values) for rows in once)
        if unlike or len(once) > 1 or (once and self.tile_micros):
            raise ValueError(f"{self.name}: only one kind of rows counts once, of constants, in a view without tiles")

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of a row's values, sorted: the column order of a `Tail`."""
        return tuple(sorted({name for rows in self.rows for name, _ in rows.values}))

    @cached_property
    def once(self) -> Rows | None:
        """The rows that count once, if there are such."""
        return next((rows for rows in self.rows if rows.once is not None), None)

    @cached_property
    def features(self) -> tuple[str, ...]:
        """The names of the features, in the order of `evaluate`."""
        return tuple(window.name for window in self.windows)

    @cached_property
    def plan(self) -> SumPlan:
        """What `evaluate` needs, worked out once."""

        def of(column: str, window: Window) -> WindowSum:
            return column, window.width_micros + window.delay_micros, window.delay_micros

        return sum_plan(
            self.columns,
            [(of(w.numerator, w), None if w.denominator is None else of(w.denominator, w)) for w in self.windows],
        )

    @cached_property
    def horizon_micros(self) -> int:
        """How far back a request may look."""
        return max(window.width_micros + window.delay_micros for window in self.windows)

    @cached_property
    def tile_micros(self) -> int:
        """The tile's length in microseconds; 0 for exact views."""
        return 0 if self.tile is None else self.tile // MICRO


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentItems:
    """The last `length` items of an entity (newest first): what a viewer watched, which videos are new."""

    name: str
    entity: str | None  # None: one list for everyone, under the key `EVERYONE`
    topic: str
    item: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestFields:
    """The fields of an entity's latest event."""

    name: str
    entity: str
    topic: str
    fields: tuple[str, ...]


View = WindowedView | RecentItems | LatestFields


@dataclass(frozen=True, slots=True)
class Tail:
    """An entity's recent rows: what the online store holds for a windowed view.

    `times` has shape (n,), ascending, microseconds; `values` has shape (n, len(view.columns)). Rows of equal time are
    ordered by their values, so that the bytes do not depend on the order of arrival.
    """

    times: Micros
    values: Floats

    def pack(self) -> bytes:
        """Bytes: the times, then each column of values, little-endian; their number follows from the view."""
        return self.times.astype("<i8").tobytes() + self.values.astype("<f8").tobytes("F")


def empty_tail(view: WindowedView) -> Tail:
    """The tail of an entity that nothing is known of."""
    return Tail(np.empty(0, np.int64), np.empty((0, len(view.columns)), np.float64))


def unpack_tail(view: WindowedView, data: bytes | None) -> Tail:
    """The inverse of `Tail.pack`, whatever a state remembers besides; `None` or no bytes give an empty tail.

    Raises:
        ValueError: if the bytes are not a whole number of rows of this view.
    """
    if not data:
        return empty_tail(view)
    data, width = reported_rows.rows_of(data), len(view.columns)
    count, rest = divmod(len(data), 8 * (1 + width))
    if rest:
        raise _no_tail(view, data)
    times = np.frombuffer(data, "<i8", count)
    columns = np.frombuffer(data, "<f8", count * width, offset=8 * count).reshape(width, count)
    return Tail(times, columns.T)


def row_time(view: WindowedView, time: int) -> int:
    """The time from which an event at `time` counts: itself, or the end of its tile."""
    tile = view.tile_micros
    return time if not tile else -(-time // tile) * tile


def extend(view: WindowedView, tail: Tail, times: Micros, values: Floats) -> Tail:
    """The tail with more rows: in order, merged per tile, and nothing older than the horizon.

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
    # Adding zero turns a negative zero into a positive one: equal values have equal bytes.
    all_values = np.concatenate([tail.values, values]) + 0.0
    if (all_times[1:] <= all_times[:-1]).any():
        order = np.lexsort((*all_values.T[::-1], all_times))
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

    A tail reaches the horizon and one more day behind its newest row: a moment more than a day older than that row
    is answered from windows whose oldest part is gone.

    Args:
        view: the declaration.
        tail: the entity's recent rows.
        as_of: the moment of the request, microseconds.
        own: the row of the request itself, which windows without delay include.

    Returns:
        Shape (len(view.windows),), in the order of `view.features`.
    """
    return np.array(of_arrays(view.plan, tail.times, tail.values, as_of, own))


def evaluate_state(
    view: WindowedView, state: bytes | None, as_of: int, own: Mapping[str, float] | None = None
) -> list[float]:
    """What `evaluate` says of a packed tail, as a list: the request path, which makes no arrays of few rows.

    Raises:
        ValueError: if the bytes are not a whole number of rows of this view.
    """
    data = reported_rows.rows_of(state or b"")
    if len(data) % view.plan.row_bytes:
        raise _no_tail(view, data)
    return of_bytes(view.plan, data, as_of, own)


def _no_tail(view: WindowedView, data: bytes) -> ValueError:
    return ValueError(f"{view.name}: {len(data)} bytes are no whole number of rows of {len(view.columns)} values")
