"""Events and their outcomes, read from the lake with SQL.

In: the lake and a split. Out: Arrow tables ordered by `time` (microseconds).
Invariant: an outcome that was not known at the stated moment is not in them, and neither is a payment or a page that
came late: the feature tables of its day were closed.
"""
# ruff: noqa: S608 - the SQL is made of constants of this repository; no input from outside reaches it

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from reference_system.event_time import micros
from reference_system.events import PREDICTIONS
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.training.temporal_split import Span
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS, TRANSACTIONS
from reference_system.use_cases.fraud.labels import DISPUTE_FIELDS, LABEL_DELAY, disputes_query
from reference_system.use_cases.recommendation.events import CATEGORIES, IMPRESSIONS, VIDEOS, WATCHES
from reference_system.use_cases.recommendation.labels import ATTRIBUTION, MIN_COMPLETION
from reference_system.use_cases.recommendation.policy import BY_CHANCE

_TIME = "epoch_us(event_timestamp) AS time"


def labelled_payments(lake: Path, span: Span, *, known: datetime | None = None) -> pa.Table:
    """The payments of a window, with their labels.

    Args:
        lake: the lake's folder.
        span: the window.
        known: labels are those known then; by default when the window's last label is mature.

    Returns:
        customer_id, terminal_id, amount, time, label (1.0 for a fraud).
    """
    with connection(lake.parent) as duck:
        fields = ["transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp"]
        found = delta_lake.read(lake, TRANSACTIONS, start=span.start, end=span.end, columns=fields, counted_only=True)
        duck.register("payments", found)
        for name, topic in (("chargebacks", CHARGEBACKS), ("reversals", REVERSALS)):
            found = delta_lake.read(lake, topic, start=span.start, end=span.end, columns=DISPUTE_FIELDS)
            duck.register(name, found)
        known_micros = micros(span.end + LABEL_DELAY if known is None else known)
        query = f"""
            WITH frauds AS (FROM ({disputes_query(known_micros)}) WHERE withdrawn_timestamp IS NULL)
            SELECT customer_id, terminal_id, amount, {_TIME},
                (frauds.transaction_id IS NOT NULL)::DOUBLE AS label
            FROM payments LEFT JOIN frauds USING (transaction_id) ORDER BY time, transaction_id
        """
        return duck.sql(query).to_arrow_table()


def served_requests(lake: Path, span: Span, use_case: str) -> pa.Table:
    """What the prediction log says of the requests of a window that a model answered.

    Returns:
        entity_id, features (the model's input rows, one after the other), time.
    """
    with connection(lake.parent) as duck:
        fields = ["prediction_id", "use_case", "entity_id", "features", "event_timestamp"]
        duck.register("answers", delta_lake.read(lake, PREDICTIONS, start=span.start, end=span.end, columns=fields))
        query = f"""
            SELECT entity_id, features, {_TIME} FROM answers
            WHERE use_case = '{use_case}' AND len(features) > 0 ORDER BY time, prediction_id
        """
        return duck.sql(query).to_arrow_table()


def impressions(lake: Path, span: Span) -> pa.Table:
    """Every video of every page of a window, with its outcome.

    Returns:
        viewer_id, video_id, position (1 is first), propensity, drawn (whether any video could stand there), time,
        label (1.0 if it was watched in time).
    """
    with connection(lake.parent) as duck:
        fields = ["impression_id", "viewer_id", "video_ids", "propensities", "policy", "event_timestamp"]
        found = delta_lake.read(lake, IMPRESSIONS, start=span.start, end=span.end, columns=fields, counted_only=True)
        duck.register("pages", found)
        fields = ["impression_id", "video_id", "completion", "event_timestamp"]
        until = span.end + ATTRIBUTION
        duck.register("watches", delta_lake.read(lake, WATCHES, start=span.start, end=until, columns=fields))
        query = f"""
            WITH shown AS (
                SELECT impression_id, viewer_id, {_TIME}, unnest(video_ids) AS video_id,
                    unnest(propensities) AS propensity, unnest(range(1, len(video_ids) + 1)) AS position,
                    policy = '{BY_CHANCE}' AS drawn
                FROM pages
            ),
            seen AS (
                SELECT impression_id, video_id, min(epoch_us(event_timestamp)) AS seen_at FROM watches
                WHERE completion >= {MIN_COMPLETION} GROUP BY ALL
            )
            SELECT viewer_id, video_id, position::DOUBLE AS position, propensity, drawn, time,
                coalesce(seen_at <= time + {ATTRIBUTION // timedelta(microseconds=1)}, false)::DOUBLE AS label
            FROM shown LEFT JOIN seen USING (impression_id, video_id) ORDER BY time, impression_id, position
        """
        return duck.sql(query).to_arrow_table()


def watched_videos(lake: Path, span: Span) -> pa.Table:
    """What was watched in a window: viewer_id, video_id, completion, time."""
    with connection(lake.parent) as duck:
        fields = ["watch_id", "viewer_id", "video_id", "completion", "event_timestamp"]
        duck.register("watches", delta_lake.read(lake, WATCHES, start=span.start, end=span.end, columns=fields))
        query = f"SELECT viewer_id, video_id, completion, {_TIME} FROM watches ORDER BY time, watch_id"
        return duck.sql(query).to_arrow_table()


def catalogue(lake: Path, *, until: datetime) -> pa.Table:
    """The videos published before a moment, oldest first: video_id, category (an index), duration_seconds, time."""
    with connection(lake.parent) as duck:
        fields = ["video_id", "category", "duration_seconds", "event_timestamp"]
        duck.register("videos", delta_lake.read(lake, VIDEOS, end=until, columns=fields))
        query = f"""
            SELECT video_id, list_position({list(CATEGORIES)}, category) - 1 AS category, duration_seconds, {_TIME}
            FROM videos ORDER BY time, video_id
        """
        return duck.sql(query).to_arrow_table()
