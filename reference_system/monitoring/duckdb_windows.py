"""Windows: what monitoring compares, read from the lake and from the feature tables.

In: a stretch of event time. Out: columns as arrays with the moment of each row.
Invariant: an answer counts only if its payment or page is in the lake, so load tests and trials are left out; at
most so many answers are read, chosen by the hash of their id, so a second look sees the same ones.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY, moment_of
from reference_system.events import PREDICTIONS, Topic
from reference_system.lake.delta_lake import read
from reference_system.lake.duckdb_connection import connection
from reference_system.use_cases.fraud import model as fraud
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK, request_inputs
from reference_system.use_cases.recommendation import model as recommendation
from reference_system.use_cases.recommendation.events import IMPRESSIONS, VIDEOS, WATCHES

# A few thousand rows a day are enough for ten bins, and bound the memory.
MAX_PAYMENTS = 80_000
MAX_COMPARED_PAGES = 10_000
_ONE_DAY = timedelta(days=1)
# A video is new for so long; its age itself grows day by day and would always drift.
_NEW_DAYS = 3
# A page's policy is the version of the model that chose it, or the name of a policy of the world's own.
_BY_MODEL = "regexp_full_match(policy, '[0-9]+')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model was given and what it said.

    `times`, `versions` and `scores` have shape (n,), one for each answer: `scores` is the first score, NaN where a
    rule answered. `inputs` has shape (m, width), the model's input rows; row i belongs to answer `owners[i]`.
    """

    times: Micros
    versions: NDArray[np.str_]
    scores: Floats
    inputs: Floats
    owners: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Where a use case's answers have their outcomes, how wide an input row is, and how many answers are read.

    `asked` is the condition under which an outcome was preceded by a question to the model.
    """

    topic: Topic
    key: str
    asked: str
    columns: tuple[str, ...]
    width: int
    most: int


_SOURCES = {
    fraud.NAME: _Source(
        topic=TRANSACTIONS,
        key="transaction_id",
        asked="true",
        columns=("transaction_id",),
        width=len(fraud.SIGNATURE),
        most=MAX_PAYMENTS,
    ),
    recommendation.NAME: _Source(
        topic=IMPRESSIONS,
        key="impression_id",
        asked=_BY_MODEL,
        columns=("impression_id", "policy"),
        width=len(recommendation.SIGNATURE),
        most=MAX_COMPARED_PAGES,
    ),
}


def served_answers(lake: Path, use_case: str, start: datetime, end: datetime) -> Answers:
    """The prediction log of [start, end): the inputs as they were served."""
    source = _SOURCES[use_case]
    with _answers(lake, use_case, start, end) as duck:
        (found,) = duck.sql("SELECT count(*) FROM answers").fetchall()[0]
        table = duck.sql(
            f"""SELECT epoch_us(event_timestamp) AS t, model_version, scores[1] AS score,
                CASE WHEN len(features) % {source.width} = 0 THEN features ELSE [] END AS features
            FROM answers WHERE hash(request_id) % {_stride(found, source.most)} = 0 ORDER BY t"""
        ).to_arrow_table()
    inputs, owners = _rows(table["features"], source.width)
    return Answers(
        times=_numbers(table, "t").astype(np.int64),
        versions=_texts(table, "model_version"),
        scores=_numbers(table, "score"),
        inputs=inputs,
        owners=owners,
    )


def coverage(lake: Path, use_case: str, start: datetime, end: datetime) -> float:
    """The share of the payments or pages of [start, end) for which an answer was logged."""
    with _answers(lake, use_case, start, end) as duck:
        found, expected = duck.sql("SELECT (SELECT count(*) FROM answers), (SELECT count(*) FROM ids)").fetchall()[0]
    return float(found / expected) if expected else 0.0


def degraded_share(lake: Path, use_case: str, start: datetime, end: datetime) -> tuple[int, float]:
    """How many answers of [start, end) were logged, and which share of them a rule gave instead of the model."""
    with connection(lake.parent) as duck:
        columns = ("use_case", "degraded")
        duck.register("predictions", read(lake, PREDICTIONS, start=start, end=end, columns=columns))
        count, share = duck.sql(
            f"SELECT count(*), avg(degraded::TINYINT) FROM predictions WHERE use_case = '{use_case}'"
        ).fetchall()[0]
    return int(count), float(share or 0.0)


@contextmanager
def _answers(lake: Path, use_case: str, start: datetime, end: datetime) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the tables `answers`, one for each payment or page, and `ids`, the payments or pages."""
    source = _SOURCES[use_case]
    columns = ("event_timestamp", "use_case", "request_id", "model_version", "scores", "features")
    with connection(lake.parent) as duck:
        duck.register("predictions", read(lake, PREDICTIONS, start=start, end=end, columns=columns))
        duck.register("outcomes", read(lake, source.topic, start=start, end=end, columns=source.columns))
        duck.execute(
            f"CREATE TEMP TABLE ids AS SELECT DISTINCT {source.key} AS request_id FROM outcomes WHERE {source.asked}"
        )
        duck.execute(
            f"""CREATE TEMP TABLE answers AS
            SELECT * FROM predictions WHERE use_case = '{use_case}' AND request_id IN (SELECT request_id FROM ids)
            QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY event_timestamp) = 1"""
        )
        yield duck


def fraud_features(lake: Path, feature_tables: Path, start: datetime, end: datetime) -> tuple[Micros, Floats]:
    """The fraud model's inputs of the payments in [start, end) as training knows them: from the feature tables.

    Returns:
        Moments, shape (n,), and inputs, shape (n, 15); payments that the tables do not have are left out.
    """
    views = (CUSTOMER_ACTIVITY, TERMINAL_RISK)
    files = [_day_files(feature_tables / view.name, start, end) for view in views]
    if not all(files):
        return np.empty(0, np.int64), np.empty((0, 3 + sum(len(view.features) for view in views)))
    with connection(lake.parent) as duck:
        columns = ("transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp")
        duck.register("paid", read(lake, TRANSACTIONS, start=start, end=end, columns=columns))
        duck.execute("CREATE TEMP TABLE payments AS SELECT *, epoch_us(event_timestamp) AS t FROM paid")
        (count,) = duck.sql("SELECT count(*) FROM payments").fetchall()[0]
        names = ", ".join(f'"{name}"' for view in views for name in view.features)
        joins = " ".join(
            f"JOIN (SELECT *, epoch_us(event_timestamp) AS t FROM read_parquet({paths!r})) AS {view.name} "
            f"ON {view.name}.{view.entity} = payments.{view.entity} AND {view.name}.t = payments.t"
            for view, paths in zip(views, files, strict=True)
        )
        table = duck.sql(
            f"SELECT payments.t AS t, amount, {names} FROM payments {joins} "
            f"WHERE hash(transaction_id) % {_stride(count, MAX_PAYMENTS)} = 0 ORDER BY t"
        ).to_arrow_table()
    times = _numbers(table, "t").astype(np.int64)
    request = [
        request_inputs(amount, moment_of(time))
        for amount, time in zip(table["amount"].to_pylist(), times.tolist(), strict=True)
    ]
    stored = [_numbers(table, name) for view in views for name in view.features]
    return times, np.column_stack([np.array(request).reshape(-1, 3), *stored])


def payments_between(lake: Path, start: datetime, end: datetime) -> tuple[Micros, Floats]:
    """The payments of [start, end): moments and amounts, shapes (n,)."""
    with connection(lake.parent) as duck:
        columns = ("event_timestamp", "amount")
        duck.register("paid", read(lake, TRANSACTIONS, start=start, end=end, columns=columns))
        table = duck.sql("SELECT epoch_us(event_timestamp) AS t, amount FROM paid ORDER BY t").to_arrow_table()
    return _numbers(table, "t").astype(np.int64), _numbers(table, "amount")


def watches_between(lake: Path, start: datetime, end: datetime) -> tuple[Micros, dict[str, NDArray[np.generic]]]:
    """What was watched in [start, end): moments and columns, all shapes (n,)."""
    with connection(lake.parent) as duck:
        columns = ("event_timestamp", "video_id", "category", "completion", "position")
        duck.register("watches", read(lake, WATCHES, start=start, end=end, columns=columns))
        duck.register("videos", read(lake, VIDEOS, columns=("video_id", "event_timestamp")))
        table = duck.sql(
            f"""SELECT epoch_us(watches.event_timestamp) AS t, category, completion, position,
                t - epoch_us(videos.event_timestamp) < {_NEW_DAYS * MICROS_PER_DAY} AS new
            FROM watches LEFT JOIN videos USING (video_id) ORDER BY t"""
        ).to_arrow_table()
    return _numbers(table, "t").astype(np.int64), {
        "watched_category": _texts(table, "category"),
        "watched_completion": _numbers(table, "completion"),
        "watched_position": _numbers(table, "position"),
        "watched_new_video": _numbers(table, "new"),
    }


def page_sources(lake: Path, start: datetime, end: datetime) -> tuple[Micros, NDArray[np.str_]]:
    """Who chose the pages of [start, end): `model` for any version, else the policy's name."""
    with connection(lake.parent) as duck:
        columns = ("event_timestamp", "policy")
        duck.register("impressions", read(lake, IMPRESSIONS, start=start, end=end, columns=columns))
        table = duck.sql(
            f"""SELECT epoch_us(event_timestamp) AS t,
                CASE WHEN {_BY_MODEL} THEN 'model' ELSE policy END AS source
            FROM impressions ORDER BY t"""
        ).to_arrow_table()
    return _numbers(table, "t").astype(np.int64), _texts(table, "source")


def _stride(count: int, most: int) -> int:
    return max(1, -(-count // most))


def _day_files(folder: Path, start: datetime, end: datetime) -> list[str]:
    """The view's files of the days that [start, end) touches, those that exist."""
    first = start.replace(hour=0, minute=0, second=0, microsecond=0)
    days: Iterable[datetime] = (first + i * _ONE_DAY for i in range((end - first) // _ONE_DAY + 1))
    paths = (folder / f"{day:%Y-%m-%d}.parquet" for day in days)
    return [str(path) for path in paths if path.exists()]


def _rows(features: pa.ChunkedArray, width: int) -> tuple[Floats, NDArray[np.int64]]:
    """All input rows of a column of lists, and which answer each belongs to."""
    merged = features.combine_chunks()
    lengths = merged.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64) // width
    inputs = merged.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, width)
    return inputs, np.repeat(np.arange(len(merged)), lengths)


def _numbers(table: pa.Table, name: str) -> NDArray[np.float64]:
    # Microseconds since 1970 stay exact in a float64 until the year 2255.
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _texts(table: pa.Table, name: str) -> NDArray[np.str_]:
    return np.array(table[name].to_pylist(), dtype=np.str_)
