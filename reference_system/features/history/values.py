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
import numpy as np
import pyarrow as pa

from reference_system.event_time import micros
from reference_system.features.history.rows import EVENT_TIME, register_events, rows_query
from reference_system.features.history.window_sums import features_of, no_values, sums_query, terms_of
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.use_cases import topic_named
from reference_system.windows import Rows, WindowedView

_TIMESTAMP = pa.timestamp("us", tz="UTC")


def feature_rows(view: WindowedView, lake: Path, start: datetime, end: datetime) -> pa.Table:
    """The view's values at the moments in [start, end), ordered by moment and entity.

    Returns:
        The entity's key (named as the view's entity), `event_timestamp`, `created_timestamp` (the same: every event
        that a value uses is known by then) and one float64 column for each feature.
    """
    first = start - timedelta(microseconds=view.horizon_micros + view.tile_micros)
    with connection(lake.parent, any_order=True) as duck:
        register_events(duck, view, lake, start=first, end=end)
        duck.execute(f"CREATE TEMP TABLE past AS {rows_query(view)}")
        if view.asked_by is None:
            moments = _tile_ends(view, micros(start), micros(end))
        else:
            moments = _asked_moments(duck, view.asked_by, lake, start, end)
        asking = f"SELECT entity, t, true AS ask, {no_values(view)} FROM ({moments})"
        result = duck.sql(f"{sums_query(duck, view, asking)} ORDER BY t, entity").to_arrow_table()
    at = result["t"].cast(_TIMESTAMP)
    sums = np.column_stack([result[f"sum_{number}"].to_numpy() for number in range(len(terms_of(view)))])
    return pa.table(
        [result["entity"].cast(pa.string()), at, at, *features_of(view, sums).T],
        names=[view.entity, "event_timestamp", "created_timestamp", *view.features],
    )


def _asked_moments(duck: duckdb.DuckDBPyConnection, asked_by: Rows, lake: Path, start: datetime, end: datetime) -> str:
    columns = [asked_by.entity, "event_timestamp"]
    asking = delta_lake.read(lake, topic_named(asked_by.topic), start=start, end=end, columns=columns)
    duck.register("asking", asking)
    return f'SELECT DISTINCT "{asked_by.entity}" AS entity, {EVENT_TIME} AS t FROM asking'


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
