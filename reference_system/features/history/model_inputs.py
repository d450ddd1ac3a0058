"""Inputs: what a model would have been given at every event of a lake, in one pass.

In: a lake, and where its events stood in the files that they came from. Out: one row for each payment or rating, in
the order of time.
Invariant: the values are those of `duckdb_history.feature_rows` at the event's moment; the order is
(`event_timestamp`, row of the file), or for live events (`event_timestamp`, partition, offset).
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from reference_system.arrays import Floats
from reference_system.events import Topic
from reference_system.features.history.requested_sums import sums_at
from reference_system.features.history.rows import register_events, rows_query
from reference_system.features.history.window_sums import features_of, sums_query, terms_of
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.windows import Is, Rows, WindowedView


def features_at_events(view: WindowedView, lake: Path, events: pa.Table) -> Floats:
    """The view's features at each event, in the order of the events.

    Args:
        view: the declaration.
        lake: the lake's folder.
        events: all events of one topic, with the view's entity, the fields of its rows, `event_timestamp` and `late`.

    Returns:
        Shape (n, len(view.windows)).
    """
    asking = _asking(view)
    if asking is None:
        return features_of(view, sums_at(view, lake, events[view.entity], times_of(events)))
    terms = terms_of(view)
    sums = np.empty((len(events), len(terms)))
    with connection(lake.parent, any_order=True) as duck:
        # An event that asks is a row of the view as well: tagged with its place, it stands in the timeline once.
        duck.register("own", _own_rows(view, asking, events))
        _load_others(duck, view, asking, lake)
        found = duck.sql(f"SELECT * EXCLUDE (entity, t) FROM ({sums_query(duck, view, 'FROM own')})").to_arrow_table()
    place = found["ask"].to_numpy()
    for number in range(len(terms)):
        sums[place, number] = found[f"sum_{number}"].to_numpy()
    return features_of(view, sums)


def columns_of(view: WindowedView, lake: Path, events: pa.Table) -> dict[str, Floats]:
    """The view's features at each event, by name."""
    return dict(zip(view.features, features_at_events(view, lake, events).T, strict=True))


def _asking(view: WindowedView) -> Rows | None:
    """The rows of the view that are made of the very events that ask."""
    if view.asked_by is None or view.tile is not None:
        return None
    wanted = (view.asked_by.topic, view.asked_by.entity, False)
    return next((rows for rows in view.rows if (rows.topic, rows.entity, rows.explode) == wanted), None)


def _own_rows(view: WindowedView, asking: Rows, events: pa.Table) -> pa.Table:
    given = dict(asking.values)
    # A late event asks but is in no window.
    counted = np.where(events[delta_lake.LATE].to_numpy(), 0.0, 1.0)
    columns = {}
    for name in view.columns:
        value = given.get(name, 0.0)
        if isinstance(value, Is):
            columns[name] = pc.equal(events[value.field], value.value).cast(pa.float64()).to_numpy() * counted
        elif isinstance(value, str):
            columns[name] = events[value].cast(pa.float64()).to_numpy() * counted
        else:
            columns[name] = counted * value
    return pa.table({"entity": events[view.entity], "t": times_of(events), "ask": np.arange(len(events)), **columns})


def _load_others(duck: duckdb.DuckDBPyConnection, view: WindowedView, asking: Rows, lake: Path) -> None:
    """Make `past`: the rows that do not ask."""
    others = replace(view, rows=tuple(rows for rows in view.rows if rows is not asking), windows=())
    register_events(duck, others, lake)
    rows = rows_query(others) if others.rows else "SELECT NULL::VARCHAR AS entity, NULL::BIGINT AS t WHERE false"
    missing = "".join(f', 0.0 AS "{name}"' for name in view.columns if name not in others.columns)
    duck.execute(f"CREATE TEMP TABLE past AS SELECT *{missing} FROM ({rows})")


def events_in_order(lake: Path, topic: Topic, order: Path) -> pa.Table:
    """Every event of a topic, in order."""
    fields = [*topic.record.__struct_fields__, delta_lake.LATE, "kafka_partition", "kafka_offset"]
    with connection(lake.parent, any_order=True) as duck:
        duck.register("events", delta_lake.read(lake, topic, columns=fields))
        duck.register("source_rows", _order(order, topic.event_id))
        found = duck.sql(f"""
            SELECT events.* FROM events LEFT JOIN source_rows USING ({topic.event_id})
            ORDER BY event_timestamp, source_row, kafka_partition, kafka_offset, {topic.event_id}
        """)
        events = found.to_arrow_table().combine_chunks()
    # DuckDB has its own name for UTC.
    return events.cast(pa.schema([delta_lake.arrow_schema(topic).field(name) for name in events.column_names]))


def _order(folder: Path, event_id: str) -> pa.Table:
    files: Sequence[str] = sorted(str(path) for path in folder.glob("*.parquet"))
    schema = pa.schema([(event_id, pa.string()), ("source_row", pa.int64())])
    return ds.dataset(files, schema=schema).to_table() if files else schema.empty_table()


def times_of(events: pa.Table) -> pa.Array:
    """The event times, microseconds."""
    return events["event_timestamp"].cast(pa.int64()).to_numpy()
