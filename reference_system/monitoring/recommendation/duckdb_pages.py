"""Windows of pages and watches: what monitoring compares, from the lake."""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Micros
from reference_system.event_time import MICROS_PER_DAY
from reference_system.lake.delta_lake import read
from reference_system.lake.duckdb_connection import connection
from reference_system.monitoring.duckdb_windows import AnswerSource, numbers_of, texts_of
from reference_system.use_cases.recommendation.events import IMPRESSIONS, VIDEOS, WATCHES
from reference_system.use_cases.recommendation.model import NAME, SIGNATURE

# A few thousand rows a day are enough for ten bins, and bound the memory.
MAX_COMPARED_PAGES = 10_000
# A video is new for so long; its age itself grows day by day and would always drift.
_NEW_DAYS = 3
# A page's policy is the version of the model that chose it, or the name of a policy of the world's own.
_BY_MODEL = "regexp_full_match(policy, '[0-9]+')"

PAGE_ANSWERS = AnswerSource(
    use_case=NAME,
    topic=IMPRESSIONS,
    key="impression_id",
    asked=_BY_MODEL,
    columns=("impression_id", "policy"),
    width=len(SIGNATURE),
    most=MAX_COMPARED_PAGES,
)


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
    return numbers_of(table, "t").astype(np.int64), {
        "watched_category": texts_of(table, "category"),
        "watched_completion": numbers_of(table, "completion"),
        "watched_position": numbers_of(table, "position"),
        "watched_new_video": numbers_of(table, "new"),
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
    return numbers_of(table, "t").astype(np.int64), texts_of(table, "source")
