"""History: the values that a windowed view had at past moments, computed from the lake with SQL.

In: a view's declaration and a range of days. Out: one row for each entity and moment that was asked about.
Invariant: a value is what `evaluate` would have said at that moment, with every event up to it.

Exact views are computed where their `asked_by` events stand. Tiled views are computed at tile ends: rows lie on tile
ends and windows are whole tiles wide, so nothing enters or leaves a window in between, and the value at the last
tile end is the value at every moment until the next.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from reference_system import delta_lake
from reference_system.duckdb_connection import connection
from reference_system.use_cases import topic_named
from reference_system.windows import MICROS_PER_DAY, SNAP, Is, Rows, Value, WindowedView, micros

_TIMESTAMP = pa.timestamp("us", tz="UTC")
_EVENT_TIME = "epoch_us(event_timestamp)"
_CREATED_TIME = "epoch_us(created_timestamp)"


def feature_rows(view: WindowedView, lake: Path, start: datetime, end: datetime) -> pa.Table:
    """The view's values at the moments in [start, end), ordered by moment and entity.

    Returns:
        The entity's key (named as the view's entity), `event_timestamp`, `created_timestamp` (the same: every event
        that a value uses is known by then) and one float64 column for each feature.
    """
    first = start - timedelta(microseconds=view.horizon_micros + view.tile_micros)
    with connection(lake.parent, any_order=True) as duck:
        for number, rows in enumerate(view.rows):
            topic, fields = topic_named(rows.topic), fields_of(rows)
            events = delta_lake.read(lake, topic, start=first, end=end, columns=fields, counted_only=True)
            duck.register(f"events_{number}", events)
        duck.execute(f"CREATE TEMP TABLE past AS {rows_query(view)}")
        if view.asked_by is None:
            moments = _tile_ends(view, micros(start), micros(end))
        else:
            moments = _asked_moments(duck, view.asked_by, lake, start, end)
        result = duck.sql(_windows_query(view, moments)).to_arrow_table()
    at = result["t"].cast(_TIMESTAMP)
    features = [result[name] for name in view.features]
    return pa.table(
        [result["entity"].cast(pa.string()), at, at, *features],
        names=[view.entity, "event_timestamp", "created_timestamp", *view.features],
    )


def fields_of(rows: Rows) -> list[str]:
    """The fields of an event that its rows are made of."""
    fields = {rows.entity, "event_timestamp"}
    for _, value in rows.values:
        if isinstance(value, Is):
            fields.add(value.field)
        elif isinstance(value, str):
            fields.add(value)
    if rows.known_within_days is not None:
        fields.add("created_timestamp")
    return sorted(fields)


def rows_query(view: WindowedView, *, only: str = "true", merged: bool = True) -> str:
    """SQL for the view's rows `(entity, t, known, *columns)` from `events_0`, `events_1`, ….

    `t` is the time from which a row counts, `known` the time at which it could be known; `only` is a condition on
    each event's `known`. The rows of a tile are merged into one, unless each event's own `known` is needed.
    """
    tile = view.tile_micros
    at = f"({_EVENT_TIME} + {tile - 1}) // {tile} * {tile}" if tile else _EVENT_TIME
    parts = []
    for number, rows in enumerate(view.rows):
        values = dict(rows.values)
        columns = ", ".join(f'{_sql_of(values.get(name, 0.0), snap=bool(tile))} AS "{name}"' for name in view.columns)
        entity = f'unnest("{rows.entity}")' if rows.explode else f'"{rows.entity}"'
        late = rows.known_within_days
        known = _EVENT_TIME if late is None else _CREATED_TIME
        in_time = "true" if late is None else f"{known} - {_EVENT_TIME} <= {round(late * MICROS_PER_DAY)}"
        parts.append(
            f"SELECT {entity} AS entity, {at} AS t, {known} AS known, {columns} FROM events_{number} WHERE {in_time}"
        )
    rows_sql = f"SELECT * FROM ({' UNION ALL '.join(parts)}) WHERE {only}"
    if not tile or not merged:
        return rows_sql
    sums = ", ".join(f'sum("{name}") AS "{name}"' for name in view.columns)
    return f"SELECT entity, t, max(known) AS known, {sums} FROM ({rows_sql}) GROUP BY entity, t"


def _sql_of(value: Value, *, snap: bool) -> str:
    """A row value as a double; the same arithmetic as in `stream_rows.py`, so that the bytes are the same."""
    if isinstance(value, Is):
        return f"(\"{value.field}\" = '{value.value}')::DOUBLE"
    if isinstance(value, str):
        return f'floor("{value}"::DOUBLE * {SNAP} + 0.5) / {SNAP}' if snap else f'"{value}"::DOUBLE + 0.0'
    return f"{value!r}::DOUBLE"


def _asked_moments(duck: duckdb.DuckDBPyConnection, asked_by: Rows, lake: Path, start: datetime, end: datetime) -> str:
    columns = [asked_by.entity, "event_timestamp"]
    asking = delta_lake.read(lake, topic_named(asked_by.topic), start=start, end=end, columns=columns)
    duck.register("asking", asking)
    return f'SELECT DISTINCT "{asked_by.entity}" AS entity, {_EVENT_TIME} AS t FROM asking'


def _tile_ends(view: WindowedView, start: int, end: int) -> str:
    """Every tile end in [start, end) at which an entity has a row within the horizon.

    The horizon is closed here, so that the last tile end of an entity that fell silent says that its windows are
    empty now. Each row answers for the tile ends until the entity's next row: together they are all, each once.
    """
    tile, horizon = view.tile_micros, view.horizon_micros
    first, last = -(-start // tile) * tile, (end - 1) // tile * tile
    until = f"least(t + {horizon}, lead(t - {tile}, 1, t + {horizon}) OVER (PARTITION BY entity ORDER BY t))"
    spans = f"SELECT entity, greatest(t, {first}) AS low, least({until}, {last}) AS high FROM past"
    return f"SELECT entity, unnest(generate_series(low, high, {tile})) AS t FROM ({spans}) WHERE low <= high"


def _windows_query(view: WindowedView, moments: str) -> str:
    """The window sums at each moment, divided where the declaration divides."""
    columns = view.columns
    edges = sorted({(window.width_micros, window.delay_micros) for window in view.windows})
    sums: dict[tuple[int, int, str], str] = {}
    for window in view.windows:
        for name in filter(None, (window.numerator, window.denominator)):
            sums.setdefault((window.width_micros, window.delay_micros, name), f"sum_{len(sums)}")
    # RANGE takes both ends in; one microsecond less makes the window half-open, as `(t - delay - days, t - delay]`.
    frames = ", ".join(
        f"frame_{number} AS (PARTITION BY entity ORDER BY t RANGE BETWEEN {width + delay - 1} PRECEDING"
        f" AND {delay} PRECEDING)"
        for number, (width, delay) in enumerate(edges)
    )
    summed = ", ".join(
        f'coalesce(sum("{name}") OVER frame_{edges.index((width, delay))}, 0.0) AS {alias}'
        for (width, delay, name), alias in sums.items()
    )
    features = []
    for window in view.windows:
        above = sums[window.width_micros, window.delay_micros, window.numerator]
        if window.denominator is None:
            features.append(f'{above} AS "{window.name}"')
        else:
            below = sums[window.width_micros, window.delay_micros, window.denominator]
            features.append(f'CASE WHEN {below} = 0 THEN 0.0 ELSE {above} / {below} END AS "{window.name}"')
    values = ", ".join(f'"{name}"' for name in columns)
    nothing = ", ".join("0.0" for _ in columns)
    return f"""
        WITH timeline AS (
            SELECT entity, t, {values}, false AS asked FROM past
            UNION ALL SELECT entity, t, {nothing}, true FROM ({moments})
        ),
        summed AS (SELECT entity, t, asked, {summed} FROM timeline WINDOW {frames})
        SELECT entity, t, {", ".join(features)} FROM summed WHERE asked ORDER BY t, entity
    """
