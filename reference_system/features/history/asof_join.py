"""The point-in-time join: for each asked row the newest fact of its entity that held, and was known, at its moment.

In: asked rows (entity keys and a moment), a table of facts (Parquet). Out: the facts' values, one row for each asked
row, in the asked order.
Invariant: nothing that happened, or was written, after a row's moment is in its values.

Two steps, both on few bytes. An ASOF join over keys and times alone says which event time each row sees; the values
of these (entity, event time) pairs are then fetched, and among several versions of one pair the one that was created
last wins. What was created after its event time (a correction) becomes visible later than its place in time; such
facts are joined by the time of their creation, each with the newest event time that its entity had reached by then.
"""
# ruff: noqa: S608 - the SQL is built from the definitions of feature views; names and paths are quoted

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.errors import StateError
from reference_system.lake.duckdb_connection import connection

_TIMESTAMP = pa.timestamp("us", tz="UTC")
_MICRO = timedelta(microseconds=1)
# Earlier than any fact, and far enough from the edge of an int64 to calculate with.
_EVER = -(2**62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A table of facts and how to read it.

    Attributes:
        path: Parquet, one file or a glob.
        keys: pairs of a column of the facts and the column of the asked rows that it must equal.
        event_time: the column that says since when a fact holds.
        created_time: the column that says when it was written, which decides between versions.
        only_known: whether a fact counts only for moments from its creation on.
        ttl: for how long a fact holds, both ends included; `None`: for ever.
        features: pairs of a column of the facts and its name in the result.
    """

    path: str
    keys: tuple[tuple[str, str], ...]
    event_time: str
    created_time: str | None
    only_known: bool
    ttl: timedelta | None
    features: tuple[tuple[str, str], ...]


@contextmanager
def joining(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A bounded DuckDB for `asof_values`; what exceeds its memory spills into the folder for that long."""
    with connection(folder, any_order=True) as duck:
        duck.execute("SET enable_progress_bar = false")
        duck.execute("SET TimeZone = 'UTC'")  # times without a zone are UTC, whatever the machine's zone
        yield duck


def asof_values(
    duck: duckdb.DuckDBPyConnection, facts: Facts, keys: Sequence[pa.ChunkedArray], at: pa.Array
) -> pa.Table:
    """The values of `facts` for each asked row.

    Args:
        duck: from `joining`.
        facts: what to join.
        keys: the asked rows' key columns, in the order of `facts.keys`. A null equals nothing.
        at: their moments. A null sees nothing.

    Returns:
        One column for each of `facts.features`, one row for each asked row, in their order; nulls where nothing held.

    Raises:
        StateError: if a key is text on one side only.
    """
    moments = at.cast(_TIMESTAMP, safe=False)
    asked = pa.table(
        [pa.array(np.arange(len(moments))), moments, *keys],
        names=["number", "moment", *(_key(i) for i in range(len(keys)))],
    )
    _require_like_keys(duck, facts, asked)
    duck.register("asked", asked)
    found = duck.sql(_query(facts, *_reach(facts, moments))).to_arrow_table()
    return _in_asked_order(found, len(asked)).rename_columns([name for _, name in facts.features])


def _reach(facts: Facts, moments: pa.Array) -> tuple[int, int]:
    """The first and the last event time, in microseconds, that any of the moments can see."""
    bounds = pc.min_max(moments.cast(pa.int64())).as_py()
    if bounds["min"] is None:
        return _EVER, _EVER
    return _EVER if facts.ttl is None else max(_EVER, bounds["min"] - facts.ttl // _MICRO), bounds["max"]


def _query(facts: Facts, oldest: int, newest: int) -> str:
    each_key = [_key(i) for i in range(len(facts.keys))]
    keys = ", ".join(each_key)
    values = ", ".join(f"value_{i}" for i in range(len(facts.features)))
    only_known = facts.only_known and facts.created_time is not None
    ttl = None if facts.ttl is None else facts.ttl // _MICRO

    def same(one: str, other: str) -> str:
        return " AND ".join(f"{one}.{key} = {other}.{key}" for key in each_key)

    return f"""
        WITH facts AS NOT MATERIALIZED (
            {_read(facts, oldest, newest)}
        ), prompt AS (
            SELECT {keys}, event_time FROM facts WHERE {"created_time <= event_time" if only_known else "true"}
        ), corrections AS (
            SELECT {keys}, created_time,
                max(event_time) OVER (PARTITION BY {keys} ORDER BY created_time) AS event_time
            FROM facts WHERE {"created_time > event_time" if only_known else "false"}
        ), newest AS (
            SELECT asked.*, greatest(prompt.event_time, corrections.event_time) AS event_time
            FROM asked
            ASOF LEFT JOIN prompt ON {same("asked", "prompt")} AND moment >= prompt.event_time
            ASOF LEFT JOIN corrections ON {same("asked", "corrections")} AND moment >= corrections.created_time
        ), held AS (
            SELECT * FROM newest WHERE {"true" if ttl is None else f"epoch_us(moment) - epoch_us(event_time) <= {ttl}"}
        )
        SELECT number, {values}
        FROM held JOIN facts ON {same("held", "facts")} AND held.event_time = facts.event_time
        WHERE {"created_time <= moment" if only_known else "true"}
        QUALIFY 1 = row_number() OVER (
            PARTITION BY number ORDER BY created_time DESC NULLS LAST, file DESC, place DESC
        )
    """


def _read(facts: Facts, oldest: int, newest: int) -> str:
    """The facts of some time, under names that no column of theirs can be mistaken for."""
    event_time = f"{quoted(facts.event_time)}::TIMESTAMPTZ"
    columns = [
        *(f"{quoted(column)} AS {_key(i)}" for i, (column, _) in enumerate(facts.keys)),
        f"{event_time} AS event_time",
        f"{quoted(facts.created_time)}::TIMESTAMPTZ AS created_time" if facts.created_time else "NULL AS created_time",
        "file_index AS file",
        "file_row_number AS place",
        *(f"{quoted(column)} AS value_{i}" for i, (column, _) in enumerate(facts.features)),
    ]
    return f"""SELECT {", ".join(columns)} FROM read_parquet({text(facts.path)})
        WHERE {event_time} BETWEEN make_timestamptz({oldest}) AND make_timestamptz({newest})"""


def _in_asked_order(found: pa.Table, rows: int) -> pa.Table:
    """One row for each asked row: what was found for it, or nulls."""
    place = np.full(rows, -1)
    place[found["number"].to_numpy()] = np.arange(len(found))
    return found.drop_columns("number").take(pa.array(place, mask=place < 0))


def _require_like_keys(duck: duckdb.DuckDBPyConnection, facts: Facts, asked: pa.Table) -> None:
    """DuckDB would compare the text '7' with the number 7 and call them equal."""
    columns = ", ".join(quoted(column) for column, _ in facts.keys)
    types = duck.sql(f"SELECT {columns} FROM read_parquet({text(facts.path)})").types
    for i, ((column, asked_column), stored) in enumerate(zip(facts.keys, types, strict=True)):
        given = asked.schema.field(_key(i)).type
        if not pa.types.is_null(given) and (str(stored) == "VARCHAR") != _is_text(given):
            raise StateError(
                f"{asked_column} is {given} in the entity dataframe, {column} is {stored} in {facts.path}"
            )


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _key(position: int) -> str:
    return f"key_{position}"


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"
