"""Volumes: how many events of each topic arrived on each of the last days, and how old the newest is.

In: the lake. Out: counts by 24 hours, counted back from now.
Invariant: an event counts on the day it could be known, so late labels do not make the past grow.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.events import Topic
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.use_cases.fraud.events import REVERSALS

# The longest that an event may come after it happened: a label, plus a day of grace. A label may be taken back at any
# later time; such events are few.
_LATEST = timedelta(days=8)


class TopicVolume(msgspec.Struct, frozen=True, kw_only=True):
    """`days[i]` events in 24 hours, the oldest first; `newest` is the moment from which the newest was known."""

    topic: str
    days: tuple[int, ...]
    newest: datetime | None


def volumes(lake: Path, topics: Sequence[Topic], *, as_of: datetime, days: int) -> tuple[TopicVolume, ...]:
    """The volume of each topic over the last `days` days."""
    return tuple(_volume(lake, topic, as_of, days) for topic in topics)


def _volume(lake: Path, topic: Topic, as_of: datetime, days: int) -> TopicVolume:
    known = topic.known_field
    columns = sorted({"event_timestamp", known})
    start = as_of - timedelta(days=days)
    happened_since = None if topic == REVERSALS else start - _LATEST
    with connection(lake.parent) as duck:
        duck.register("events", delta_lake.read(lake, topic, start=happened_since, end=as_of, columns=columns))
        rows = duck.sql(
            f"""SELECT ({micros(as_of)} - 1 - epoch_us({known})) // {MICROS_PER_DAY} AS block, count(*),
                max(epoch_us({known}))
            FROM events WHERE epoch_us({known}) BETWEEN {micros(start)} AND {micros(as_of) - 1}
            GROUP BY block"""
        ).fetchall()
    counts = {int(block): int(count) for block, count, _ in rows}
    newest = max((int(time) for _, _, time in rows), default=None)
    return TopicVolume(
        topic=topic.name,
        days=tuple(counts.get(block, 0) for block in reversed(range(days))),
        newest=None if newest is None else moment_of(newest),
    )
