"""Upkeep of the lake: small files merged, what nobody reads any more deleted, old days dropped.

In: the lake, now and then. Out: about one file a day and table; on disk besides it only what was written or replaced
within `RETENTION`.
Invariant: no row that a reader or a recount needs disappears. Rows of dropped days leave their counts in the commit
that drops them (`dropped`), so what a table has and what it dropped is always all that was ever appended to it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction

from reference_system.events import EARLIEST, Topic
from reference_system.lake.delta_lake import (
    CONFIGURATION,
    EVENT_DAY,
    LATE,
    MAX_PARTITIONS,
    exists,
    kept_up,
    read,
    written,
)
from reference_system.lake.delta_lake import table_path as _path

_ONE_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEFORE = "dropped before"


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """What a table had of days that it no longer has: rows that happened, and were known, before a midnight.

    `rows` counts by (Kafka partition, late); those of generated history came through no partition and are not counted.
    """

    before: datetime = EARLIEST
    rows: Mapping[tuple[int, bool], int] = {}


def compact(lake: Path, topic: Topic) -> int:
    """Merge the stream's small files, a day each, and delete what nobody reads any more.

    While a writer is at work nothing is deleted: that waits for the next compaction.

    Returns:
        The number of files that were merged into larger ones.
    """
    if not exists(lake, topic):
        return 0
    with written(lake, topic):
        removed = int(DeltaTable(_path(lake, topic)).optimize.compact()["numFilesRemoved"])
    with contextlib.suppress(BlockingIOError), kept_up(lake, topic) as delta:
        _vacuum(delta)
    return removed


def _vacuum(delta: DeltaTable) -> None:
    if delta.metadata().configuration != CONFIGURATION:  # a table of an older version
        delta.alter.set_table_properties(CONFIGURATION)
    # In full: a checkpoint forgets what was replaced longer ago than the retention, so a vacuum that looks only into
    # the log would never delete what a checkpoint between two compactions left out.
    delta.vacuum(dry_run=False, full=True)
    delta.create_checkpoint()
    delta.cleanup_metadata()


def drop_days(lake: Path, topic: Topic, before: datetime) -> int:
    """Drop the rows of all days before one; their files go with the next compaction after `RETENTION`.

    What was told only later of such a day stays until it is as old: states, and what a partition has seen last, go by
    when an event was known.

    Args:
        lake: the lake's folder.
        topic: whose table it is.
        before: a midnight, the first moment that is kept.

    Returns:
        How many rows that were; none while a writer is at work.
    """
    if not exists(lake, topic):
        return 0
    with contextlib.suppress(BlockingIOError), kept_up(lake, topic) as delta:
        columns = ["kafka_partition", LATE, topic.known_field]
        found = read(lake, topic, end=before, columns=columns).read_all()
        found = found.filter(pc.less(found[topic.known_field], pa.scalar(before)))
        if not found.num_rows:
            return 0
        counts = dict(_held(delta).rows)
        for part, late, rows in zip(*_grouped(found), strict=True):
            counts[part, late] = counts.get((part, late), 0) + rows
        marks = [Transaction(_mark(part, late=late), rows) for (part, late), rows in counts.items() if part >= 0]
        marks.append(Transaction(_BEFORE, (before - _EPOCH) // _ONE_DAY))
        properties = CommitProperties(app_transactions=marks)
        delta.delete(
            f"{EVENT_DAY} < '{before:%Y-%m-%d}' AND {topic.known_field} < '{before.isoformat()}'",
            commit_properties=properties,
        )
        return int(found.num_rows)
    return 0


def dropped(lake: Path, topic: Topic) -> Dropped:
    """What the table has dropped so far."""
    return _held(DeltaTable(_path(lake, topic))) if exists(lake, topic) else Dropped()


def live_files(lake: Path, topic: Topic) -> tuple[int, int]:
    """How many files the table is made of, and of how many days it has rows."""
    if not exists(lake, topic):
        return 0, 0
    delta = DeltaTable(_path(lake, topic))
    return len(delta.file_uris()), len(delta.partitions())


def first_offsets(lake: Path, topic: Topic, since: datetime) -> dict[int, int]:
    """For each Kafka partition the first offset whose row was known at `since` or later, where it has one."""
    known = topic.known_field
    # What is told of an earlier moment may be told however much later.
    start = since if known == "event_timestamp" else None
    found = read(lake, topic, start=start, columns=["kafka_partition", "kafka_offset", known]).read_all()
    streamed = pc.and_(pc.greater_equal(found["kafka_offset"], 0), pc.greater_equal(found[known], pa.scalar(since)))
    groups = found.filter(streamed).group_by("kafka_partition")
    least = groups.aggregate([("kafka_offset", "min")])
    return dict(zip(least["kafka_partition"].to_pylist(), least["kafka_offset_min"].to_pylist(), strict=True))


def _held(delta: DeltaTable) -> Dropped:
    days = delta.transaction_version(_BEFORE)
    if days is None:
        return Dropped()
    marks = {(part, late): _mark(part, late=late) for part in range(MAX_PARTITIONS) for late in (False, True)}
    found = {place: delta.transaction_version(mark) for place, mark in marks.items()}
    return Dropped(
        before=_EPOCH + days * _ONE_DAY, rows={place: rows for place, rows in found.items() if rows is not None}
    )


def _grouped(found: object) -> list[list[int]]:
    groups = found.group_by(["kafka_partition", LATE]).aggregate([([], "count_all")])  # type: ignore[attr-defined]
    return [groups[name].to_pylist() for name in ("kafka_partition", LATE, "count_all")]


def _mark(part: int, *, late: bool) -> str:
    return f"dropped {part} {'late' if late else 'counted'}"
