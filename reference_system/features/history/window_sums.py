"""Window sums in SQL: what the windows of a view add up at the moments that ask.

In: a view's rows in DuckDB (`rows.py`), rows that ask. Out: a sum for each window and value that the features are made
of, for each row that asks.
Invariant: a window has what lies in it and could be known by then, and nothing that was taken back by then.

Rows lie where their facts lie, and windows are frames of a fixed width over them. What is taken back leaves a window
before its frame does: it is subtracted from then on, as a running total that is joined by time.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np

from reference_system.arrays import Floats
from reference_system.features.history.rows import FAR_FUTURE
from reference_system.windows import WindowedView

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


def sums_query(duck: duckdb.DuckDBPyConnection, view: WindowedView, asking: str) -> str:
    """SQL for the sums `(entity, t, ask, sum_0, …)` of the rows that ask, in no order.

    Args:
        duck: has the table `past`: rows of `rows_query`.
        view: the declaration.
        asking: SQL for `(entity, t, ask, *columns)`; `ask` is never null, and the values are in the windows.
    """
    terms = terms_of(view)
    edges = sorted({(width, delay) for width, delay, _ in terms})
    # RANGE takes both ends in; one microsecond less makes the window half-open, as `(t - delay - days, t - delay]`.
    frames = ", ".join(
        f"frame_{number} AS (PARTITION BY entity ORDER BY t RANGE BETWEEN {width + delay - 1} PRECEDING"
        f" AND {delay} PRECEDING)"
        for number, (width, delay) in enumerate(edges)
    )
    framed = ", ".join(
        f'coalesce(sum("{name}") OVER frame_{edges.index((width, delay))}, 0.0) AS sum_{number}'
        for number, (width, delay, name) in enumerate(terms)
    )
    values = ", ".join(f'"{name}"' for name in view.columns)
    answers = f"""
        WITH timeline AS (
            SELECT entity, t, NULL AS ask, {values} FROM past UNION ALL SELECT entity, t, ask, {values} FROM ({asking})
        ),
        summed AS (SELECT entity, t, ask, {framed} FROM timeline WINDOW {frames}),
        answered AS (SELECT * FROM summed WHERE ask IS NOT NULL)
    """
    if not _load_gone(duck, view, terms):
        return f"{answers} SELECT * FROM answered"
    sums = ", ".join(f"sum_{number} - coalesce(gone_{number}, 0.0) AS sum_{number}" for number in range(len(terms)))
    return f"""
        {answers} SELECT answered.entity, answered.t, ask, {sums} FROM answered
        ASOF LEFT JOIN gone ON gone.entity = answered.entity AND gone.t <= answered.t
    """


def no_values(view: WindowedView) -> str:
    """SQL for the values of a row that asks and is in no window."""
    return ", ".join(f'0.0 AS "{name}"' for name in view.columns)


def _load_gone(duck: duckdb.DuckDBPyConnection, view: WindowedView, terms: Sequence[Term]) -> bool:
    """Make `gone`: what is in each window's frame from a moment on though it is taken back. False if there is none."""
    if view.once is None or not duck.sql(f"SELECT 1 FROM past WHERE until < {FAR_FUTURE} LIMIT 1").fetchall():
        return False
    changes = []
    for number, (width, delay, name) in enumerate(terms):
        others = "".join(f", 0.0 AS gone_{other}" for other in range(len(terms)) if other != number)
        # It is gone from when it is taken back, but not before the frame has it, until the frame has it no more.
        for at, sign in ((f"greatest(until, t + {delay})", ""), (f"t + {width + delay}", "-")):
            changes.append(
                f'SELECT entity, {at} AS t, {sign}"{name}" AS gone_{number}{others} FROM past'
                f" WHERE until < t + {width + delay}"
            )
    sums = ", ".join(f"sum(gone_{number}) AS gone_{number}" for number in range(len(terms)))
    totals = ", ".join(f"sum(gone_{number}) OVER so_far AS gone_{number}" for number in range(len(terms)))
    duck.execute(f"""
        CREATE TEMP TABLE gone AS SELECT entity, t, {totals} FROM (
            SELECT entity, t, {sums} FROM ({" UNION ALL BY NAME ".join(changes)}) GROUP BY entity, t
        ) WINDOW so_far AS (PARTITION BY entity ORDER BY t)
    """)
    return True
