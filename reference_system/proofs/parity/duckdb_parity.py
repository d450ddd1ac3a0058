"""Recomputes the prediction log of a use case from the lake and compares it.

In: the lake and a time range. Out: a `ParityReport`.
Invariant: every settled prediction of the range is compared (up to a limit, the newest first), each value once.

A prediction is settled if its timestamp is at least `UNSETTLED` before the newest event of the lake, so that every
event that counts for it has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Floats
from reference_system.errors import StateError
from reference_system.event_time import micros, moment_of
from reference_system.events import PREDICTIONS
from reference_system.features.stream.state_rows import topics_of
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.paths import StatePaths
from reference_system.proofs.parity.cases import (
    EVENTS,
    INPUTS_LOGGED,
    LOGGED,
    VIEWS_SERVED,
    LoggedRows,
    page_questions,
    payment_questions,
    read_around,
    rows_of_log,
    served_values,
)
from reference_system.proofs.parity.comparison import (
    RELATIVE_TOLERANCE,
    ComparedRows,
    ParityReport,
    all_features,
    by_feature,
    differs,
    match,
    worst,
)
from reference_system.proofs.parity.questions import UNSETTLED
from reference_system.use_cases import topic_named

# The default limit of compared predictions.
NEWEST = 20_000


def check_parity(
    paths: StatePaths,
    use_case: str,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = NEWEST,
) -> ParityReport:
    """Compare the features served in [start, end) with history.

    Args:
        paths: the paths of the system.
        use_case: `fraud` or `recommendation`.
        start: by default the oldest prediction.
        end: by default after the newest settled prediction.
        limit: the most predictions to compare, the newest first.

    Raises:
        StateError: if there is no settled prediction in the range.
    """
    with connection(paths.root, any_order=True) as duck:
        predictions, settling = _predictions(duck, paths.lake, use_case, _Range(start, end, limit))
        without_event, unasked = _unmatched(duck, paths.lake, use_case, predictions)
    rows = _compared(paths, use_case, predictions)
    features = by_feature(rows, verdicts := match(rows))
    return ParityReport(
        use_case=use_case,
        first=min(rows.moments),
        last=max(rows.moments),
        predictions=predictions.num_rows,
        degraded=pc.sum(predictions["degraded"]).as_py(),
        rows=len(rows.served),
        settling=settling,
        predictions_without_event=without_event,
        events_without_prediction=unasked,
        tolerance=RELATIVE_TOLERANCE,
        all_features=all_features(features),
        features=features,
        differences=worst(rows, verdicts),
    )


def _compared(paths: StatePaths, use_case: str, predictions: pa.Table) -> ComparedRows:
    """The served rows with the rows from history."""
    log = rows_of_log(predictions, use_case)
    served, extra = served_values(log, paths.bundles, use_case)
    recomputed, low, high = _recompute(paths.lake, use_case, log, served)
    return ComparedRows(
        names=INPUTS_LOGGED[use_case],
        served=served,
        recomputed=recomputed,
        low=low,
        high=high,
        predictions=log.column("prediction_id").to_pylist(),
        keys=log.keys(),
        moments=[moment_of(time) for time in log.times("event_timestamp").tolist()],
        extra=extra,
    )


def _recompute(lake: Path, use_case: str, log: LoggedRows, served: Floats) -> tuple[Floats, Floats, Floats]:
    """The rows from history and, where they differ, bounds on the values that a lagging stream would serve."""
    prepare = payment_questions if use_case == "fraud" else page_questions
    one, other, assemble = prepare(lake, log, served)
    recomputed = assemble(one.history(lake), other.history(lake), np.arange(len(log.of)))
    wrong = np.flatnonzero((differs(served, recomputed) & ~np.isnan(served)).any(axis=1))
    low, high = np.full(served.shape, np.nan), np.full(served.shape, np.nan)
    if len(wrong):
        (least, most), (least_other, most_other) = one.known(lake, wrong), other.known(lake, wrong)
        low[wrong], high[wrong] = assemble(least, least_other, wrong), assemble(most, most_other, wrong)
    return recomputed, low, high


@dataclass(frozen=True, slots=True)
class _Range:
    """The predictions to compare."""

    start: datetime | None
    end: datetime | None
    limit: int


def _predictions(duck: duckdb.DuckDBPyConnection, lake: Path, use_case: str, of: _Range) -> tuple[pa.Table, int]:
    """The settled predictions of a range, and the number of unsettled ones."""
    newest = max(_newest(duck, lake, topic) for view in VIEWS_SERVED[use_case] for topic in topics_of(view))
    settled = newest - micros(moment_of(0) + UNSETTLED)
    asked = delta_lake.read(lake, PREDICTIONS, start=of.start, end=of.end, columns=("event_timestamp", "use_case"))
    duck.register("asked", asked)
    # Select narrow columns first: the vectors of a whole log would not fit in memory.
    settling, oldest = duck.execute(
        """
        WITH log AS (SELECT epoch_us(event_timestamp) AS t FROM asked WHERE use_case = $use_case),
        chosen AS (SELECT t FROM log WHERE t <= $settled ORDER BY t DESC LIMIT $limit)
        SELECT (SELECT count(*) FROM log WHERE t > $settled), (SELECT min(t) FROM chosen)
        """,
        {"use_case": use_case, "settled": settled, "limit": of.limit},
    ).fetchall()[0]
    if oldest is None:
        raise StateError(
            f"no prediction for {use_case} can be compared yet: {settling} in the range are less than"
            f" {UNSETTLED} of event time older than the newest event of the lake",
            next_command="workbook status",
        )
    end = moment_of(settled + 1) if of.end is None else min(of.end, moment_of(settled + 1))
    duck.register(
        "log", delta_lake.read(lake, PREDICTIONS, start=moment_of(oldest), end=end, columns=(*LOGGED, "use_case"))
    )
    query = "SELECT * FROM log WHERE use_case = $1 ORDER BY event_timestamp DESC, prediction_id LIMIT $2"
    return duck.sql(query, params=[use_case, of.limit]).to_arrow_table(), settling


def _newest(duck: duckdb.DuckDBPyConnection, lake: Path, topic: str) -> int:
    duck.register("newest", delta_lake.read(lake, topic_named(topic), columns=("event_timestamp",)))
    return int(duck.sql("SELECT coalesce(max(epoch_us(event_timestamp)), 0) FROM newest").fetchall()[0][0])


def _unmatched(duck: duckdb.DuckDBPyConnection, lake: Path, use_case: str, predictions: pa.Table) -> tuple[int, int]:
    """How many predictions have no event in the lake, and how many events of their range have no prediction."""
    topic = EVENTS[use_case]
    span = pc.min_max(predictions["event_timestamp"].cast(pa.int64())).as_py()
    first, last = span["min"], span["max"]
    happened = read_around(lake, topic, first, last, ("event_timestamp", topic.event_id)).read_all()
    duck.register("event", happened.rename_columns(["moment", "id"]))
    duck.register("every", read_around(lake, PREDICTIONS, first, last, ("request_id", "use_case")))
    duck.register("compared", predictions.select(["request_id"]))
    without = duck.execute("SELECT count(*) FROM compared WHERE request_id NOT IN (SELECT id FROM event)")
    count = int(without.fetchall()[0][0])
    unasked = duck.execute(
        "SELECT count(*) FROM event WHERE epoch_us(moment) BETWEEN $1 AND $2"
        " AND id NOT IN (SELECT request_id FROM every WHERE use_case = $3)",
        [first, last, use_case],
    )
    return count, int(unasked.fetchall()[0][0])
