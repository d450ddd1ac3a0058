"""The logs of a release: the prediction log beside the shadow log, request by request.

In: the lake and a release. Out: paired answers, and how many answers the challenger gave.
Invariant: nothing that was created after `as_of` is used; a request that was asked twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from reference_system.arrays import Flags, Floats
from reference_system.event_time import micros
from reference_system.events import PREDICTIONS, SHADOWS, Topic
from reference_system.lake.delta_lake import read
from reference_system.lake.duckdb_connection import connection
from reference_system.registry.release.evidence import ScorePairs
from reference_system.registry.release.releases import Release

_COLUMNS = (
    *("event_timestamp", "created_timestamp", "prediction_id", "use_case", "request_id", "entity_id"),
    *("model_version", "items", "scores", "decision", "latency_ms"),
)
# A request may ask about a moment shortly before the release.
_SLACK = timedelta(hours=1)
_LOGS = (
    ("log_of_answers", PREDICTIONS, "CREATE TEMP TABLE answered AS FROM log_of_answers WHERE use_case = $use_case"),
    ("log_of_shadows", SHADOWS, "CREATE TEMP TABLE shadows AS FROM log_of_shadows WHERE use_case = $use_case"),
)
_PAIRS = """
    CREATE TEMP TABLE pairs AS
    SELECT answered.request_id, answered.prediction_id, shadow.model_version AS shadow, shadow.latency_ms,
        CASE WHEN shadow.model_version = $version THEN shadow.scores ELSE answered.scores END AS scores,
        CASE WHEN shadow.model_version = $version THEN answered.scores ELSE shadow.scores END AS champion_scores,
        CASE WHEN shadow.model_version = $version THEN shadow.items ELSE answered.items END AS items,
        CASE WHEN shadow.model_version = $version THEN answered.items ELSE shadow.items END AS champion_items,
        (CASE WHEN shadow.model_version = $version THEN shadow.decision ELSE answered.decision END) AS decision,
        (CASE WHEN shadow.model_version = $version THEN answered.decision ELSE shadow.decision END)
            AS champion_decision
    FROM answered JOIN shadows AS shadow USING (prediction_id)
    WHERE answered.use_case = $use_case AND shadow.use_case = $use_case
        AND [answered.model_version, shadow.model_version] IN ([$version, $champion], [$champion, $version])
        AND epoch_us(answered.created_timestamp) BETWEEN $started AND $as_of
        AND len(answered.scores) > 0 AND len(shadow.scores) > 0
    QUALIFY row_number() OVER (
        PARTITION BY answered.request_id ORDER BY answered.created_timestamp, answered.prediction_id
    ) = 1
"""
_CANARY_ANSWERS = """
    SELECT count(DISTINCT request_id) FROM answered
    WHERE use_case = $use_case AND model_version = $version
        AND epoch_us(created_timestamp) BETWEEN $since AND $as_of
"""


@contextmanager
def open_pairs(lake: Path, release: Release, *, as_of: datetime) -> Iterator[ReleaseLogs]:
    """The logs since the release began."""
    start = release.started - _SLACK
    with connection(lake.parent) as duck:
        for name, topic, wanted in _LOGS:
            duck.register(name, read(lake, topic, start=start, columns=_COLUMNS))
            duck.execute(wanted, {"use_case": release.use_case})
        logs = ReleaseLogs(duck, lake, release, as_of)
        logs.pair()
        yield logs


class ReleaseLogs:
    """Questions to the logs of one release."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, lake: Path, release: Release, as_of: datetime) -> None:
        """Ask `duck`, which has both logs."""
        self._duck = duck
        self._lake = lake
        self._release = release
        self._as_of = micros(as_of)
        self._known: dict[str, object] = {
            "use_case": release.use_case,
            "version": release.version,
            "champion": release.champion,
            "started": micros(release.started),
            "since": micros(release.since),
            "as_of": self._as_of,
        }

    def pair(self) -> None:
        """Join both logs."""
        self._duck.execute(_PAIRS, self._used(_PAIRS))

    def register(self, name: str, topic: Topic, *, start: datetime, columns: Sequence[str]) -> None:
        """Make the events of a topic since `start` a table of that name."""
        self._duck.register(name, read(self._lake, topic, start=start, columns=columns))

    @property
    def since(self) -> datetime:
        """When the present stage began."""
        return self._release.since

    @property
    def start(self) -> datetime:
        """From when on the logs are read: shortly before the release began."""
        return self._release.started - _SLACK

    @property
    def as_of(self) -> int:
        """Nothing later is used, microseconds."""
        return self._as_of

    @property
    def pairs(self) -> int:
        """How many requests both models answered."""
        return self.one("SELECT count(*) FROM pairs")[0]

    @property
    def canary_answers(self) -> int:
        """How many requests the challenger answered since the canary began; 0 in the shadow."""
        return 0 if self._release.stage == "shadow" else self.one(_CANARY_ANSWERS)[0]

    def said(self, scores: Floats, champion_scores: Floats) -> ScorePairs:
        """The pairs of scores, with the time that each model took."""
        times = self.ask("SELECT shadow = $version AS ours, latency_ms FROM pairs").to_arrow_table()
        ours, taken = flags_of(times, "ours"), numbers_of(times, "latency_ms")
        return ScorePairs(
            scores=scores,
            champion_scores=champion_scores,
            scoring_ms=taken[ours],
            champion_scoring_ms=taken[~ours],
        )

    def ask(self, query: str) -> duckdb.DuckDBPyRelation:
        """The result of a query over `pairs`, `answered`, `shadows` and what was registered."""
        return self._duck.sql(query, params=self._used(query))

    def _used(self, query: str) -> dict[str, object]:
        """DuckDB refuses a parameter that the query does not name."""
        return {name: value for name, value in self._known.items() if f"${name}" in query}

    def one(self, query: str) -> tuple[int, ...]:
        """The first row of a query, as whole numbers."""
        return tuple(int(value) for value in self.ask(query).fetchall()[0])


def numbers_of(table: pa.Table, name: str) -> Floats:
    """A column as numbers, shape (n,)."""
    return np.asarray(table[name].to_numpy(), np.float64)


def flags_of(table: pa.Table, name: str) -> Flags:
    """A column as flags, shape (n,)."""
    return np.asarray(table[name].to_numpy(), np.bool_)
