"""What a comparison of two tables found: records for programs and for people.

In: nothing but fields. Out: the shape of `workbook drift report --json`.
Invariant: a chunk has an alert if and only if its statistic is above the threshold of its column.
"""

from __future__ import annotations

import msgspec

from reference_system.monitoring.histograms import HistogramKind
from reference_system.monitoring.table_drift.cells import CellReading

MIN_ROWS = 50
FALSE_ALARM_RATE = 0.01


class ChunkDrift(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk of a column, numbered from 1; without a statistic it has too few rows to be judged."""

    chunk: int
    rows: int
    statistic: float | None
    alert: bool


class ColumnVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """One column."""

    kind: HistogramKind
    method: str
    threshold: float
    chunks: tuple[ChunkDrift, ...]
    first_alert: int | None


class ColumnFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What helps to understand a verdict, of the chunk with the largest statistic (or the only one).

    `reading` says which texts were numbers, or truth values.
    """

    chunk: int | None
    psi: float | None
    ks: float | None
    missing_before: float
    missing_now: float | None
    note: str = ""
    reading: CellReading = "numbers"


class DriftSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the tables were compared."""

    false_alarm_rate: float = FALSE_ALARM_RATE
    timestamp: str | None = None
    chunk_size: int | None = None
    min_rows: int = MIN_ROWS


class TableDrift(msgspec.Struct, frozen=True, kw_only=True):
    """The whole comparison."""

    columns: dict[str, ColumnVerdict]
    left_out: dict[str, str]
    figures: dict[str, ColumnFigures]
    settings: DriftSettings
    rows: dict[str, int]
    notes: list[str]

    @property
    def drifted(self) -> list[str]:
        """The columns with an alert."""
        return [name for name, column in self.columns.items() if column.first_alert is not None]
