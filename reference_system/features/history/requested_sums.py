"""Asked: the window sums of a view at moments that somebody asks about, from the lake.

In: a view's declaration and a table of questions, each an entity and a moment. Out: the sums of every window at each
question, from all counted events or from those that were known by a moment of the question's own.
Invariant: with all events, the features of the sums are those of `duckdb_history.feature_rows` at that moment.

Sums and not features, because a question may add its own row, and because sums of what happened only grow with what
is known, and shrink with what is taken back: what a state held that lay between two of them lies between their sums.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Floats, Micros
from reference_system.event_time import moment_of
from reference_system.features.history.rows import register_events, rows_query
from reference_system.features.history.window_sums import no_values, sums_query, terms_of
from reference_system.lake.duckdb_connection import connection
from reference_system.windows import WindowedView


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
    asked = pa.table({"entity": pa.array(entities, pa.string()), "t": moments})
    return _answers(view, lake, asked, _of_all_events)


def sums_known(  # noqa: PLR0913, PLR0917 - parallel columns of the questions
    view: WindowedView,
    lake: Path,
    entities: Sequence[str] | pa.Array,
    moments: Micros,
    known: Micros,
    known_taken_back: Micros | None = None,
) -> Floats:
    """Like `sums_at`, with the events alone that could be known at `known`, shape (n,), of each question.

    Of what takes back a report, the events count that could be known at `known_taken_back`; by default the same.
    """
    taken_back = known if known_taken_back is None else known_taken_back
    columns = {"entity": pa.array(entities, pa.string()), "t": moments, "known": known, "taken_back": taken_back}
    return _answers(view, lake, pa.table(columns), _of_known_events)


def _answers(
    view: WindowedView, lake: Path, asked: pa.Table, query: Callable[[duckdb.DuckDBPyConnection, WindowedView], str]
) -> Floats:
    terms = terms_of(view)
    if not asked.num_rows:
        return np.empty((0, len(terms)))
    asked = asked.append_column("ask", pa.array(np.arange(asked.num_rows)))
    span = pc.min_max(asked["t"]).as_py()
    start = moment_of(span["min"]) - timedelta(microseconds=view.horizon_micros + view.tile_micros)
    with connection(lake.parent, any_order=True) as duck:
        duck.register("asked", asked)
        # As far back as the windows reach.
        register_events(duck, view, lake, start=start, end=moment_of(span["max"] + 1))
        found = duck.sql(f"{query(duck, view)} ORDER BY ask").to_arrow_table()
    return np.column_stack([found[f"sum_{number}"].to_numpy() for number in range(len(terms))])


def _of_all_events(duck: duckdb.DuckDBPyConnection, view: WindowedView) -> str:
    """Every event counts: one pass over the entity's timeline, as in history."""
    _load_past(duck, rows_query(view))
    return sums_query(duck, view, f"SELECT entity, t, ask, {no_values(view)} FROM asked")


def _of_known_events(duck: duckdb.DuckDBPyConnection, view: WindowedView) -> str:
    """Each question has its own past: a join, over distinct questions, because many answers ask the same."""
    _load_past(duck, rows_query(view, merged=False))
    sums = ", ".join(
        f'coalesce(sum(p."{name}") FILTER (p.t > q.t - {width + delay} AND p.t <= q.t - {delay}), 0.0) AS sum_{number}'
        for number, (width, delay, name) in enumerate(terms_of(view))
    )
    stood = "true"
    if view.once is not None:
        stood = "coalesce(p.superseded > q.known, true) AND p.until > q.taken_back"
    return f"""
        WITH distinct_asked AS (SELECT DISTINCT entity, t, known, taken_back FROM asked),
        summed AS (
            SELECT q.entity, q.t, q.known, q.taken_back, {sums} FROM distinct_asked AS q
            LEFT JOIN past AS p ON p.entity = q.entity AND p.known <= q.known
                AND p.t <= q.t AND p.t > q.t - {view.horizon_micros} AND {stood}
            GROUP BY q.entity, q.t, q.known, q.taken_back
        )
        SELECT * FROM asked JOIN summed USING (entity, t, known, taken_back)
    """


def _load_past(duck: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Make `past`, of the entities that are asked about."""
    duck.execute(f"CREATE TEMP TABLE past AS SELECT * FROM ({rows}) WHERE entity IN (SELECT entity FROM asked)")
