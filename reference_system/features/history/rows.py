"""Rows of a windowed view, in SQL from the lake's events.

In: a view's declaration, the lake. Out: tables in DuckDB, and SQL for the rows.
Invariant: the same rows, to the byte, as the stream makes of the same events (`features/stream/state_rows.py`,
`features/stream/state_updates.py`).

A fact that counts once is a row from its first report on, and until the last report of it is taken back.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import duckdb

from reference_system.event_time import MICROS_PER_DAY
from reference_system.lake import delta_lake
from reference_system.use_cases import topic_named
from reference_system.windows import SNAP, Is, Rows, Value, WindowedView

EVENT_TIME = "epoch_us(event_timestamp)"
_CREATED_TIME = "epoch_us(created_timestamp)"
# When a row ends that nothing takes back; far enough from the edge of an int64 to calculate with.
FAR_FUTURE = 2**62


def register_events(
    duck: duckdb.DuckDBPyConnection,
    view: WindowedView,
    lake: Path,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
) -> None:
    """Make the counted events that the view's rows are made of available to `rows_query`."""
    for name, topic, fields in sources_of(view):
        events = delta_lake.read(lake, topic_named(topic), start=start, end=end, columns=fields, counted_only=True)
        duck.register(name, events)
    load_told(duck, view)


def sources_of(view: WindowedView) -> Iterator[tuple[str, str, list[str]]]:
    """The tables of events behind the rows: name, topic, fields."""
    for number, rows in enumerate(view.rows):
        fields = {rows.entity, "event_timestamp"}
        for _, value in rows.values:
            if isinstance(value, Is):
                fields.add(value.field)
            elif isinstance(value, str):
                fields.add(value)
        if rows.known_within_days is not None:
            fields.add("created_timestamp")
        if rows.once is not None:
            fields |= {rows.once.per, topic_named(rows.topic).event_id}
            yield f"taken_back_{number}", rows.once.taken_back_by, sorted({*fields, "created_timestamp"})
        yield f"events_{number}", rows.topic, sorted(fields)


def load_told(duck: duckdb.DuckDBPyConnection, view: WindowedView, *, only: str = "true") -> None:
    """Make `told`, if the view has rows that count once: `(entity, t, fact, report, taken_back, known)`.

    `only` is a condition on `known`, as in `rows_query`.
    """
    if view.once is None or view.once.once is None:
        return
    number, rows, once = view.rows.index(view.once), view.once, view.once.once
    columns = (
        f'"{rows.entity}" AS entity, {EVENT_TIME} AS t, "{once.per}" AS fact,'
        f' "{topic_named(rows.topic).event_id}" AS report'
    )
    duck.execute(f"""
        CREATE TEMP TABLE told AS SELECT * FROM (
            SELECT {columns}, false AS taken_back, {_known(rows)} AS known FROM events_{number} WHERE {_in_time(rows)}
            UNION ALL SELECT {columns}, true, {_CREATED_TIME} FROM taken_back_{number}
        ) WHERE {only}
    """)


def rows_query(view: WindowedView, *, only: str = "true", merged: bool = True) -> str:
    """SQL for the view's rows `(entity, t, known, *columns)` from `events_0`, `events_1`, … and `told`.

    `t` is the time from which a row counts, `known` the time at which it could be known; `only` is a condition on
    each event's `known`. The rows of a tile are merged into one, unless each event's own `known` is needed.

    In a view with rows that count once, `until` says of each row from which moment on it is taken back. Not merged,
    such a row stands there once for each moment at which more was told of it: from `known` on, before `superseded`.
    """
    parts = [
        _plain_rows(view, number, rows, only) if rows.once is None else _told_rows(view, rows, merged=merged)
        for number, rows in enumerate(view.rows)
    ]
    rows_sql = " UNION ALL ".join(parts)
    if not view.tile_micros or not merged:
        return rows_sql
    sums = ", ".join(f'sum("{name}") AS "{name}"' for name in view.columns)
    return f"SELECT entity, t, max(known) AS known, {sums} FROM ({rows_sql}) GROUP BY entity, t"


def _plain_rows(view: WindowedView, number: int, rows: Rows, only: str) -> str:
    tile = view.tile_micros
    at = f"({EVENT_TIME} + {tile - 1}) // {tile} * {tile}" if tile else EVENT_TIME
    entity = f'unnest("{rows.entity}")' if rows.explode else f'"{rows.entity}"'
    for_good = "" if view.once is None else f"NULL::BIGINT AS superseded, {FAR_FUTURE} AS until, "
    return f"""
        SELECT * FROM (
            SELECT {entity} AS entity, {at} AS t, {_known(rows)} AS known, {for_good}{_columns(view, rows)}
            FROM events_{number} WHERE {_in_time(rows)}
        ) WHERE {only}
    """


def _told_rows(view: WindowedView, rows: Rows, *, merged: bool) -> str:
    """What takes back a report that never came makes a row that has ended already."""
    return f"""
        SELECT entity, t, known, superseded, until, {_columns(view, rows)} FROM (
            SELECT entity, t, known, lead(known) OVER fact AS superseded, max(ends) OVER so_far AS until FROM (
                SELECT *, CASE WHEN taken_back THEN 0 ELSE coalesce(
                    min(known) FILTER (taken_back) OVER (PARTITION BY entity, t, fact, report), {FAR_FUTURE}
                ) END AS ends FROM told
            ) WINDOW fact AS (PARTITION BY entity, t, fact ORDER BY known, report, taken_back),
                so_far AS (fact ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
        ) WHERE {"superseded IS NULL" if merged else "true"}
    """


def _columns(view: WindowedView, rows: Rows) -> str:
    values, snap = dict(rows.values), bool(view.tile_micros)
    return ", ".join(f'{_sql_of(values.get(name, 0.0), snap=snap)} AS "{name}"' for name in view.columns)


def _known(rows: Rows) -> str:
    return EVENT_TIME if rows.known_within_days is None else _CREATED_TIME


def _in_time(rows: Rows) -> str:
    if rows.known_within_days is None:
        return "true"
    return f"{_CREATED_TIME} - {EVENT_TIME} <= {round(rows.known_within_days * MICROS_PER_DAY)}"


def _sql_of(value: Value, *, snap: bool) -> str:
    """A row value as a double; the same arithmetic as in `stream/state_rows.py`, so that the bytes are the same."""
    if isinstance(value, Is):
        return f"(\"{value.field}\" = '{value.value}')::DOUBLE"
    if isinstance(value, str):
        return f'floor("{value}"::DOUBLE * {SNAP} + 0.5) / {SNAP}' if snap else f'"{value}"::DOUBLE + 0.0'
    return f"{value!r}::DOUBLE"
