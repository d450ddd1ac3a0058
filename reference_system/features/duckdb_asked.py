"""Asked: the window sums of a view at moments that somebody asks about, from the lake.

In: a view's declaration and a table of questions, each an entity and a moment. Out: the sums of every window at each
question, from all counted events or from those that were known by a moment of the question's own.
Invariant: with all events, the features of the sums are those of `duckdb_history.feature_rows` at that moment.

Sums and not features, because a question may add its own row, and because sums of what happened only grow with what
is known: what a state held that lay between two of them lies between their sums.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system import delta_lake
from reference_system.duckdb_connection import connection
from reference_system.features.duckdb_history import fields_of, rows_query
from reference_system.use_cases import topic_named
from reference_system.windows import Floats, Micros, WindowedView, moment_of

# A window's sum: how wide the window is, how far its end lies before the moment (µs), and which value is summed.
Term = tuple[int, int, str]


def terms_of(view: WindowedView) -> tuple[Term, ...]:
    """The sums that the view's features are made of."""
    found = {
        (window.width_micros, window.delay_micros, name)
        for window in view.windows
        for name in (window.numerator, window.denominator)
        if name is not None
    }
    return tuple(sorted(found))


def features_of(view: WindowedView, sums: Floats) -> Floats:
    """The features, shape (n, len(view.windows)), of sums of shape (n, len(terms_of(view)))."""
    place = {term: number for number, term in enumerate(terms_of(view))}
    values = np.empty((len(sums), len(view.windows)))
    for number, window in enumerate(view.windows):
        edge = window.width_micros, window.delay_micros
        value = sums[:, place[*edge, window.numerator]]
        if window.denominator is not None:
            per = sums[:, place[*edge, window.denominator]]
            value = np.divide(value, per, out=np.zeros(len(sums)), where=per != 0.0)
        values[:, number] = value
    return values


def sums_at(view: WindowedView, lake: Path, entities: Sequence[str] | pa.Array, moments: Micros) -> Floats:
    """The sums at each question with every counted event of the lake.

    Args:
        view: the declaration.
        lake: the lake's folder.
        entities: shape (n,), whose windows.
        moments: shape (n,), microseconds.

    Returns:
        Shape (n, len(terms_of(view))), in the order of the questions.
    """
    return _answers(view, lake, pa.table({"entity": pa.array(entities, pa.string()), "t": moments}), _FRAMES)


def sums_known(
    view: WindowedView, lake: Path, entities: Sequence[str] | pa.Array, moments: Micros, known: Micros
) -> Floats:
    """Like `sums_at`, with the events alone that could be known at `known`, shape (n,), of each question."""
    asked = pa.table({"entity": pa.array(entities, pa.string()), "t": moments, "known": known})
    return _answers(view, lake, asked, _JOINED)


# Every event counts: one pass over the entity's timeline, as in history.
_FRAMES = """
    WITH timeline AS (
        SELECT entity, t, {columns}, NULL::BIGINT AS ask FROM past
        UNION ALL SELECT entity, t, {nothing}, ask FROM asked
    ),
    summed AS (SELECT ask, {framed} FROM timeline WINDOW {frames})
    SELECT {aliases} FROM summed WHERE ask IS NOT NULL ORDER BY ask
"""
# Each question has its own past: a join, over distinct questions, because many answers ask the same.
_JOINED = """
    WITH distinct_asked AS (SELECT DISTINCT entity, t, known FROM asked),
    summed AS (
        SELECT q.entity, q.t, q.known, {joined} FROM distinct_asked AS q
        LEFT JOIN past AS p ON p.entity = q.entity AND p.known <= q.known AND p.t <= q.t AND p.t > q.t - {horizon}
        GROUP BY q.entity, q.t, q.known
    )
    SELECT {aliases} FROM asked JOIN summed USING (entity, t, known) ORDER BY ask
"""


def _answers(view: WindowedView, lake: Path, asked: pa.Table, query: str) -> Floats:
    terms = terms_of(view)
    if not asked.num_rows:
        return np.empty((0, len(terms)))
    asked = asked.append_column("ask", pa.array(np.arange(asked.num_rows)))
    with connection(lake.parent, any_order=True) as duck:
        duck.register("asked", asked)
        _register_past(duck, view, lake, asked, merged="known" not in asked.column_names)
        found = duck.sql(query.format(**_pieces(view, terms))).to_arrow_table()
    return np.column_stack([found[name].to_numpy() for name in found.column_names])


def _register_past(
    duck: duckdb.DuckDBPyConnection, view: WindowedView, lake: Path, asked: pa.Table, *, merged: bool
) -> None:
    """The rows of the entities that are asked about, as far back as their windows reach."""
    span = pc.min_max(asked["t"]).as_py()
    start = moment_of(span["min"]) - timedelta(microseconds=view.horizon_micros + view.tile_micros)
    end = moment_of(span["max"] + 1)
    for number, rows in enumerate(view.rows):
        events = delta_lake.read(
            lake, topic_named(rows.topic), start=start, end=end, columns=fields_of(rows), counted_only=True
        )
        duck.register(f"events_{number}", events)
    whose = "entity IN (SELECT entity FROM asked)"
    duck.execute(f"CREATE TEMP TABLE past AS SELECT * FROM ({rows_query(view, merged=merged)}) WHERE {whose}")


def _pieces(view: WindowedView, terms: Sequence[Term]) -> dict[str, str]:
    edges = sorted({(width, delay) for width, delay, _ in terms})
    aliases = [f"sum_{number}" for number in range(len(terms))]
    # RANGE takes both ends in; one microsecond less makes the window half-open.
    frames = (
        f"frame_{number} AS (PARTITION BY entity ORDER BY t RANGE BETWEEN {width + delay - 1} PRECEDING"
        f" AND {delay} PRECEDING)"
        for number, (width, delay) in enumerate(edges)
    )
    framed = (
        f'coalesce(sum("{name}") OVER frame_{edges.index((width, delay))}, 0.0) AS {alias}'
        for (width, delay, name), alias in zip(terms, aliases, strict=True)
    )
    joined = (
        f'coalesce(sum(p."{name}") FILTER (p.t > q.t - {width + delay} AND p.t <= q.t - {delay}), 0.0) AS {alias}'
        for (width, delay, name), alias in zip(terms, aliases, strict=True)
    )
    return {
        "columns": ", ".join(f'"{name}"' for name in view.columns),
        "nothing": ", ".join("0.0" for _ in view.columns),
        "framed": ", ".join(framed),
        "frames": ", ".join(frames),
        "joined": ", ".join(joined),
        "aliases": ", ".join(aliases),
        "horizon": str(view.horizon_micros),
    }
