"""The logs of a release: the prediction log beside the shadow log, request by request.

In: the lake and a release. Out: paired answers, and how many answers the challenger gave.
Invariant: nothing that was created after `as_of` is used; a request that was asked twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from reference_system.arrays import Flags, Floats
from reference_system.event_time import micros
from reference_system.events import PREDICTIONS, SHADOWS
from reference_system.lake.delta_lake import read
from reference_system.lake.duckdb_connection import connection
from reference_system.registry.release.evidence import PagePairs, PaymentPairs, ScorePairs
from reference_system.registry.release.releases import Release
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS
from reference_system.use_cases.fraud.labels import DISPUTE_FIELDS, disputes_query
from reference_system.use_cases.recommendation.events import IMPRESSIONS, WATCHES
from reference_system.use_cases.recommendation.labels import MIN_COMPLETION

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
_PAYMENTS = """
    SELECT scores[1] AS score, champion_scores[1] AS champion_score, decision <> 'approve' AS alert,
        champion_decision <> 'approve' AS champion_alert, request_id IN (
            SELECT transaction_id FROM ({disputes}) WHERE withdrawn_timestamp IS NULL
        ) AS reported
    FROM pairs ORDER BY request_id
"""
_SCORES = "SELECT unnest(scores) AS score FROM pairs"
_CHAMPION_SCORES = "SELECT unnest(champion_scores) AS score FROM pairs"
_VARIETY = """
    SELECT (SELECT count(DISTINCT video) FROM (SELECT unnest(items) AS video FROM pairs)),
        (SELECT count(DISTINCT video) FROM (SELECT unnest(champion_items) AS video FROM pairs))
"""
# A page's policy is the version that chose it; a page counts from the moment on at which both versions chose pages.
_WATCHES = """
    WITH watched AS (
        SELECT impression_id, count(DISTINCT video_id) AS videos FROM watches
        WHERE completion >= {completion} AND epoch_us(event_timestamp) <= $as_of GROUP BY impression_id
    )
    SELECT avg(coalesce(watched.videos, 0)) AS watches, policy = $version AS canary
    FROM shown LEFT JOIN watched USING (impression_id)
    WHERE policy IN ($version, $champion) AND epoch_us(event_timestamp) BETWEEN $since AND $as_of
    GROUP BY viewer_id, policy ORDER BY viewer_id, policy
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

    @property
    def pairs(self) -> int:
        """How many requests both models answered."""
        return self._one("SELECT count(*) FROM pairs")[0]

    @property
    def canary_answers(self) -> int:
        """How many requests the challenger answered since the canary began; 0 in the shadow."""
        return 0 if self._release.stage == "shadow" else self._one(_CANARY_ANSWERS)[0]

    def payments(self) -> PaymentPairs:
        """The pairs as payments."""
        # A dispute's event time is its payment's.
        start = self._release.started - _SLACK
        for name, topic in (("chargebacks", CHARGEBACKS), ("reversals", REVERSALS)):
            self._duck.register(name, read(self._lake, topic, start=start, columns=DISPUTE_FIELDS))
        found = self._ask(_PAYMENTS.format(disputes=disputes_query(self._as_of))).to_arrow_table()
        return PaymentPairs(
            said=self._said(_numbers(found, "score"), _numbers(found, "champion_score")),
            alerts=_flags(found, "alert"),
            champion_alerts=_flags(found, "champion_alert"),
            reported=_flags(found, "reported"),
        )

    def pages(self) -> PagePairs:
        """The pairs as pages."""
        said = self._said(
            *(_numbers(self._ask(query).to_arrow_table(), "score") for query in (_SCORES, _CHAMPION_SCORES))
        )
        videos, champion_videos = self._one(_VARIETY)
        shown = ("impression_id", "viewer_id", "policy", "event_timestamp")
        watched = ("impression_id", "video_id", "completion", "event_timestamp")
        self._duck.register("shown", read(self._lake, IMPRESSIONS, start=self._release.since, columns=shown))
        self._duck.register("watches", read(self._lake, WATCHES, start=self._release.since, columns=watched))
        by_viewer = self._ask(_WATCHES.format(completion=MIN_COMPLETION)).to_arrow_table()
        return PagePairs(
            said=said,
            videos=videos,
            champion_videos=champion_videos,
            watches=_numbers(by_viewer, "watches"),
            in_canary=_flags(by_viewer, "canary"),
        )

    def _said(self, scores: Floats, champion_scores: Floats) -> ScorePairs:
        times = self._ask("SELECT shadow = $version AS ours, latency_ms FROM pairs").to_arrow_table()
        ours, taken = _flags(times, "ours"), _numbers(times, "latency_ms")
        return ScorePairs(
            scores=scores,
            champion_scores=champion_scores,
            scoring_ms=taken[ours],
            champion_scoring_ms=taken[~ours],
        )

    def _ask(self, query: str) -> duckdb.DuckDBPyRelation:
        return self._duck.sql(query, params=self._used(query))

    def _used(self, query: str) -> dict[str, object]:
        """DuckDB refuses a parameter that the query does not name."""
        return {name: value for name, value in self._known.items() if f"${name}" in query}

    def _one(self, query: str) -> tuple[int, ...]:
        return tuple(int(value) for value in self._ask(query).fetchall()[0])


def _numbers(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].to_numpy(), np.float64)


def _flags(table: pa.Table, name: str) -> Flags:
    return np.asarray(table[name].to_numpy(), np.bool_)
