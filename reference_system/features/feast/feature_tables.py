"""Feature tables: Parquet that Feast's offline store reads, one folder a view.

In: computed features or states. Out: `<view>/<YYYY-MM-DD>.parquet` for features, `<view>_state/snapshot.parquet` for
states.
Invariant: a file is replaced whole or not at all, so any range of days can be computed again at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.replaced_files import replace_file, replacing

_TIMESTAMP = pa.timestamp("us", tz="UTC")
_MARK = "etl.json"


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The time up to which the feature tables are complete."""

    end: datetime


def complete_until(folder: Path) -> datetime | None:
    """The time up to which the tables in `folder` are complete; `None` before the first ETL."""
    path = folder / _MARK
    return msgspec.json.decode(path.read_bytes(), type=Mark).end if path.exists() else None


def write_mark(folder: Path, end: datetime) -> None:
    """Record that the tables are complete up to `end`."""
    replace_file(folder / _MARK, msgspec.json.encode(Mark(end=end)))


def remove_mark(folder: Path) -> None:
    """Have the next ETL compute everything."""
    (folder / _MARK).unlink(missing_ok=True)


def write_days(folder: Path, table: pa.Table, first_day: datetime, end: datetime) -> int:
    """Replace the files of the days in [first_day, end).

    Args:
        folder: the view's folder.
        table: rows ordered by `event_timestamp`, all in the range.
        first_day: midnight UTC.
        end: where the last day may be cut.

    Returns:
        The number of files written. A day without rows has no file, and loses the one it had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    midnights = np.arange(micros(first_day), micros(end), MICROS_PER_DAY)
    times = table["event_timestamp"].cast(pa.int64()).to_numpy()
    cuts = [*np.searchsorted(times, midnights), len(times)]
    written = 0
    for midnight, start, stop in zip(midnights, cuts, cuts[1:], strict=False):
        path = folder / f"{moment_of(int(midnight)):%Y-%m-%d}.parquet"
        if start == stop:
            path.unlink(missing_ok=True)
        else:
            _replace(path, table.slice(start, stop - start))
            written += 1
    return written


def write_snapshot(folder: Path, key: str, rows: Iterable[tuple[str, int, bytes]], as_of: datetime) -> int:
    """Replace a view's snapshot of states.

    Args:
        folder: the online view's folder.
        key: the name of the key's column.
        rows: entity key, event time in microseconds, state.
        as_of: the moment of the snapshot, which becomes the created time of each row.

    Returns:
        The number of states.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = list(rows)
    table = pa.table(
        {
            key: pa.array([entity for entity, _, _ in found], pa.string()),
            "state": pa.array([state for _, _, state in found], pa.binary()),
            "event_timestamp": pa.array([time for _, time, _ in found], _TIMESTAMP),
            "created_timestamp": pa.array([as_of] * len(found), _TIMESTAMP),
        }
    )
    _replace(folder / "snapshot.parquet", table)
    return len(found)


def _replace(path: Path, table: pa.Table) -> None:
    with replacing(path) as draft:
        pq.write_table(table, draft, compression="zstd")
