"""The label join of pages: what was predicted, compared with what was watched.

In: the prediction log, pages and watches, in the lake. Out: one row for each video that was shown, with its label.
Invariant: nothing that was created after `as_of` is used; only pages whose attribution window has passed are in it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from reference_system.event_time import micros
from reference_system.events import PREDICTIONS
from reference_system.feedback.answers import ANSWERS, SLACK
from reference_system.lake.delta_lake import read
from reference_system.lake.duckdb_connection import connection
from reference_system.use_cases.recommendation.events import IMPRESSIONS, WATCHES
from reference_system.use_cases.recommendation.labels import ATTRIBUTION, MIN_COMPLETION

_MICRO = timedelta(microseconds=1)
_PAGES = """
    WITH answers AS ({answers}),
    pages AS (
        SELECT impression_id, event_timestamp, viewer_id, policy, video_ids FROM impressions
        WHERE epoch_us(event_timestamp) >= {start}
            AND epoch_us(event_timestamp) < least({end}, {as_of} - {delay} + 1)
    ),
    shown AS (
        SELECT impression_id, event_timestamp, viewer_id, policy, unnest(video_ids) AS video_id,
            generate_subscripts(video_ids, 1) AS position
        FROM pages
    ),
    watched AS (
        SELECT impression_id, watches.video_id, bool_or(completion >= {completion}) AS enough,
            sum(round(watch_seconds * 1000)::BIGINT) AS milliseconds
        FROM watches JOIN pages USING (impression_id)
        WHERE epoch_us(watches.event_timestamp) <= {as_of}
            AND epoch_us(watches.event_timestamp) - epoch_us(pages.event_timestamp) <= {delay}
        GROUP BY ALL
    )
    SELECT answers.prediction_id, shown.impression_id, shown.event_timestamp, shown.viewer_id,
        shown.policy AS model_version, shown.position, shown.video_id,
        answers.scores[list_position(answers.items, shown.video_id)] AS score,
        coalesce(watched.enough, false)::TINYINT AS label,
        coalesce(watched.milliseconds, 0)::BIGINT AS watched_milliseconds
    FROM shown
    LEFT JOIN answers ON answers.request_id = shown.impression_id
    LEFT JOIN watched USING (impression_id, video_id)
    ORDER BY shown.event_timestamp, shown.impression_id, shown.position
"""


def page_outcomes(lake: Path, start: datetime, end: datetime, *, as_of: datetime) -> pa.Table:
    """Videos shown in [start, end) whose attribution window has passed.

    Returns:
        `prediction_id` (null where no model answered), `impression_id, event_timestamp, viewer_id, model_version` (the
        policy that chose the page), `position, video_id, score` (null as above), `label` (1 is watched: at least half
        of it), `watched_milliseconds` (of whatever was seen of it).
    """
    with connection(lake.parent) as duck:
        answers = ("created_timestamp", "prediction_id", "request_id", "use_case", "items", "scores")
        duck.register("predictions", read(lake, PREDICTIONS, start=start - SLACK, end=end + SLACK, columns=answers))
        pages = ("impression_id", "event_timestamp", "viewer_id", "video_ids", "policy")
        duck.register("impressions", read(lake, IMPRESSIONS, start=start, end=end, columns=pages))
        seen = ("impression_id", "video_id", "completion", "watch_seconds", "event_timestamp")
        duck.register("watches", read(lake, WATCHES, start=start, end=end + ATTRIBUTION + SLACK, columns=seen))
        return duck.sql(
            _PAGES.format(
                answers=ANSWERS.format(use_case="recommendation", as_of=micros(as_of)),
                as_of=micros(as_of),
                start=micros(start),
                end=micros(end),
                delay=ATTRIBUTION // _MICRO,
                completion=MIN_COMPLETION,
            )
        ).to_arrow_table()
