"""Pages, watches and videos, read from the lake with SQL.

Invariant: a watch after the attribution window is no label.
"""
# ruff: noqa: S608 - the SQL is made of constants of this repository; no input from outside reaches it

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.training.duckdb_events import TIME
from reference_system.training.temporal_split import Span
from reference_system.use_cases.recommendation.events import CATEGORIES, IMPRESSIONS, VIDEOS, WATCHES
from reference_system.use_cases.recommendation.labels import ATTRIBUTION, MIN_COMPLETION
from reference_system.use_cases.recommendation.policy import BY_CHANCE


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
                SELECT impression_id, viewer_id, {TIME}, unnest(video_ids) AS video_id,
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
        query = f"SELECT viewer_id, video_id, completion, {TIME} FROM watches ORDER BY time, watch_id"
        return duck.sql(query).to_arrow_table()


def catalogue(lake: Path, *, until: datetime) -> pa.Table:
    """The videos published before a moment, oldest first: video_id, category (an index), duration_seconds, time."""
    with connection(lake.parent) as duck:
        fields = ["video_id", "category", "duration_seconds", "event_timestamp"]
        duck.register("videos", delta_lake.read(lake, VIDEOS, end=until, columns=fields))
        query = f"""
            SELECT video_id, list_position({list(CATEGORIES)}, category) - 1 AS category, duration_seconds, {TIME}
            FROM videos ORDER BY time, video_id
        """
        return duck.sql(query).to_arrow_table()
