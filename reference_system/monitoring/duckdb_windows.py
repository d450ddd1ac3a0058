"""Windows: what monitoring compares, read from the lake and from the feature tables.

In: a stretch of event time. Out: columns as arrays with the moment of each row.
Invariant: an answer counts only if its payment or page is in the lake, so load tests and trials are left out; at
most so many answers are read, chosen by the hash of their id, so a second look sees the same ones.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.events import PREDICTIONS, Topic
from reference_system.lake.delta_lake import read
from reference_system.lake.duckdb_connection import connection
from reference_system.use_case import UseCase


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
class AnswerSource:
    """Where a use case's answers have their outcomes, how wide an input row is, and how many answers are read.

    `asked` is the condition under which an outcome was preceded by a question to the model.
    """

    use_case: UseCase
    topic: Topic
    key: str
    asked: str
    columns: tuple[str, ...]
    width: int
    most: int


def served_answers(lake: Path, source: AnswerSource, start: datetime, end: datetime) -> Answers:
    """The prediction log of [start, end): the inputs as they were served."""
    with _answers(lake, source, start, end) as duck:
        (found,) = duck.sql("SELECT count(*) FROM answers").fetchall()[0]
        table = duck.sql(
            f"""SELECT epoch_us(event_timestamp) AS t, model_version, scores[1] AS score,
                CASE WHEN len(features) % {source.width} = 0 THEN features ELSE [] END AS features
            FROM answers WHERE hash(request_id) % {stride(found, source.most)} = 0 ORDER BY t"""
        ).to_arrow_table()
    inputs, owners = _rows(table["features"], source.width)
    return Answers(
        times=numbers_of(table, "t").astype(np.int64),
        versions=texts_of(table, "model_version"),
        scores=numbers_of(table, "score"),
        inputs=inputs,
        owners=owners,
    )


def coverage(lake: Path, source: AnswerSource, start: datetime, end: datetime) -> float:
    """The share of the payments or pages of [start, end) for which an answer was logged."""
    with _answers(lake, source, start, end) as duck:
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
def _answers(lake: Path, source: AnswerSource, start: datetime, end: datetime) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the tables `answers`, one for each payment or page, and `ids`, the payments or pages."""
    columns = ("event_timestamp", "use_case", "request_id", "model_version", "scores", "features")
    with connection(lake.parent) as duck:
        duck.register("predictions", read(lake, PREDICTIONS, start=start, end=end, columns=columns))
        duck.register("outcomes", read(lake, source.topic, start=start, end=end, columns=source.columns))
        duck.execute(
            f"CREATE TEMP TABLE ids AS SELECT DISTINCT {source.key} AS request_id FROM outcomes WHERE {source.asked}"
        )
        duck.execute(
            f"""CREATE TEMP TABLE answers AS
            SELECT * FROM predictions
            WHERE use_case = '{source.use_case}' AND request_id IN (SELECT request_id FROM ids)
            QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY event_timestamp) = 1"""
        )
        yield duck


def stride(count: int, most: int) -> int:
    """One row in so many, for at most `most`."""
    return max(1, -(-count // most))


def _rows(features: pa.ChunkedArray, width: int) -> tuple[Floats, NDArray[np.int64]]:
    """All input rows of a column of lists, and which answer each belongs to."""
    merged = features.combine_chunks()
    lengths = merged.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64) // width
    inputs = merged.flatten().to_numpy(zero_copy_only=False).astype(np.float64).reshape(-1, width)
    return inputs, np.repeat(np.arange(len(merged)), lengths)


def numbers_of(table: pa.Table, name: str) -> NDArray[np.float64]:
    """A column as numbers, shape (n,)."""
    # Microseconds since 1970 stay exact in a float64 until the year 2255.
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def texts_of(table: pa.Table, name: str) -> NDArray[np.str_]:
    """A column as texts, shape (n,)."""
    return np.array(table[name].to_pylist(), dtype=np.str_)
