"""Drift of any table against a reference, column by column and chunk by chunk.

In: two tables that are read in batches. Out: for each column the statistic of each chunk, one threshold, the verdict.
Invariant: without drift, at most one chunk in `1 / false_alarm_rate` has an alert, whichever of its columns raises it;
counting is one pass over each table, and memory grows with neither (but for eight bytes a row where rows are ordered).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from reference_system.errors import TableRefused
from reference_system.monitoring.histograms import RowCounts
from reference_system.monitoring.table_drift.alerts import Counted, alert_figures, column_alerts
from reference_system.monitoring.table_drift.bins import ColumnBins, count_into, number_bins, text_bins
from reference_system.monitoring.table_drift.columns import (
    ColumnProfile,
    Compared,
    LeftOutColumn,
    Order,
    TableView,
    new_profile,
    tell_apart,
)
from reference_system.monitoring.table_drift.report import DriftSettings, TableDrift
from reference_system.monitoring.table_drift.row_order import Cut, RowOrder, cut
from reference_system.monitoring.table_drift.thresholds import few_of, window_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """A table after its first pass: `order` is what orders its rows, in row order, if it has a timestamp."""

    rows: int
    profiles: Mapping[str, ColumnProfile]
    order: Order


def compare_tables(reference: TableView, current: TableView, settings: DriftSettings) -> TableDrift:
    """Compare.

    Raises:
        TableRefused: if the tables or the settings make no comparison possible.
    """
    names = _shared(reference, current, settings)
    before, after = (_first_pass(table, names, settings.timestamp) for table in (reference, current))
    rows = _chunk_rows(before, after, reference, current, settings)
    kinds, left_out = _kinds(names, before, after, settings)
    bins = {name: _fit(each, before.profiles[name], after.profiles[name]) for name, each in kinds.items()}
    # Without chunks and without time the order of the rows means nothing, and its windows would not either.
    in_order = settings.timestamp is not None or settings.chunk_size is not None
    window = window_rows(before.rows, rows) if in_order else before.rows
    windows = _count(reference, bins, cut(before.rows, before.order, window, few_of))
    chunks = _count(current, bins, cut(after.rows, after.order, rows))
    counted = {
        name: Counted(
            kind=each.kind,
            bins=bins[name],
            windows=windows[name],
            window=window,
            chunks=chunks[name],
            rows=rows,
            note=_note(each, name, reference, current),
            reading=each.reading,
        )
        for name, each in kinds.items()
    }
    return TableDrift(
        columns={name: column_alerts(each, settings, columns=len(kinds)) for name, each in counted.items()},
        left_out=left_out | _in_one_only(reference, current, settings),
        figures={name: alert_figures(each, settings) for name, each in counted.items()},
        settings=settings,
        rows={"reference": before.rows, "current": after.rows},
        notes=[],
    )


def _shared(reference: TableView, current: TableView, settings: DriftSettings) -> list[str]:
    timestamp = settings.timestamp
    if timestamp is not None and timestamp not in current.types:
        raise TableRefused(f"{current.name} has no column {timestamp!r}; it has {', '.join(current.types)}")
    names = [name for name in reference.types if name in current.types]
    if not [name for name in names if name != timestamp]:
        raise TableRefused(
            f"{reference.name} ({', '.join(reference.types)}) and {current.name} ({', '.join(current.types)}) "
            "have no column in common to compare"
        )
    return names


def _first_pass(table: TableView, names: Sequence[str], timestamp: str | None) -> _Pass:
    profiles = {name: new_profile(table.types[name]) for name in names}
    rows, moments = 0, RowOrder()
    for batch in table.batches():
        for name, profile in profiles.items():
            profile.add(batch[name])
        rows += len(batch[names[0]])
        if timestamp is not None and timestamp in profiles:
            moments.add(batch[timestamp])
    if not rows:
        raise TableRefused(f"{table.name} has no rows")
    if timestamp is None or timestamp not in profiles:
        return _Pass(rows=rows, profiles=profiles, order=None)
    order = moments.found(f"{timestamp} of {table.name}")
    if len(unknown := np.flatnonzero(np.isnan(order))):
        first = int(unknown[0])
        raise TableRefused(
            f"{table.name}: {len(unknown):,} of {rows:,} rows have no {timestamp} that can be sorted by time"
            f" (row {first + 1:,}: {_cell(table, timestamp, first)!r})"
        )
    return _Pass(rows=rows, profiles=profiles, order=order)


def _cell(table: TableView, column: str, row: int) -> object:
    """What stands in a row."""
    for batch in table.batches():
        if row < len(batch[column]):
            return batch[column][row].as_py()
        row -= len(batch[column])
    return None


def _chunk_rows(before: _Pass, after: _Pass, reference: TableView, current: TableView, settings: DriftSettings) -> int:
    """The rows of a chunk."""
    for table, found in ((reference, before), (current, after)):
        if found.rows < settings.min_rows:
            raise TableRefused(
                f"{table.name} has {found.rows:,} rows, {settings.min_rows} are needed for a comparison"
            )
    size = settings.chunk_size
    if size is None:
        return after.rows
    if size < settings.min_rows:
        raise TableRefused(f"--chunk-size {size}: a chunk needs at least {settings.min_rows} rows to be judged")
    if size > after.rows:
        raise TableRefused(
            f"--chunk-size {size:,} is more than the {after.rows:,} rows of {current.name}; "
            "without it they are one chunk"
        )
    return size


def _kinds(
    names: Sequence[str], before: _Pass, after: _Pass, settings: DriftSettings
) -> tuple[dict[str, Compared], dict[str, str]]:
    kinds: dict[str, Compared] = {}
    left_out = {}
    orders = (_row_order(before, settings), _row_order(after, settings))
    for name in names:
        if name == settings.timestamp:
            left_out[name] = "the timestamp: it orders the rows"
            continue
        found = tell_apart(before.profiles[name], after.profiles[name], orders)
        if isinstance(found, LeftOutColumn):
            left_out[name] = found.reason
        else:
            kinds[name] = found
    return kinds, left_out


def _row_order(found: _Pass, settings: DriftSettings) -> Order:
    """What orders the rows; who cuts chunks without a timestamp says that they stand in order."""
    in_order = found.order is None and settings.chunk_size is not None
    return np.arange(found.rows, dtype=np.float64) if in_order else found.order


def _in_one_only(reference: TableView, current: TableView, settings: DriftSettings) -> dict[str, str]:
    found: dict[str, str] = {}
    for one, other in ((reference, current), (current, reference)):
        found |= {name: f"only in {one.name}" for name in one.types if name not in other.types}
    found.pop(settings.timestamp or "", None)
    return found


def _fit(column: Compared, before: ColumnProfile, after: ColumnProfile) -> ColumnBins:
    if column.kind == "number":
        return number_bins(before.sample(), column.reading)
    return text_bins(before.texts() or {}, after.texts(), truth=column.reading == "truth")


def _count(table: TableView, bins: Mapping[str, ColumnBins], rows: Cut) -> dict[str, RowCounts]:
    """The histograms of each column, shape (chunks, bins), in one pass."""
    counts = {name: np.zeros((rows.shares.shape[1], each.count), np.int64) for name, each in bins.items()}
    start = 0
    for batch in table.batches():
        end = start
        for name, each in bins.items():
            places = each.place(batch[name])
            end = start + len(places)
            count_into(counts[name], places, rows.parts[start:end])
        start = end
    return {name: rows.chunks(each) for name, each in counts.items()}


def _note(column: Compared, name: str, reference: TableView, current: TableView) -> str:
    before, now = reference.types[name], current.types[name]
    changed = before != now and not any(_is_typeless(table) for table in (reference, current))
    found = ["compared in seconds"] if column.reading == "durations" else []
    return "; ".join([*found, f"its type changed from {before} to {now}"] if changed else found)


def _is_typeless(table: TableView) -> bool:
    """Whether it comes from a file of texts, such as CSV: then its types say nothing."""
    return all(pa.types.is_string(kind) for kind in table.types.values())
