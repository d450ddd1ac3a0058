"""Verdicts: the histograms of a column → its threshold, and an alert or none for each chunk.

In: counts of the reference's windows and of the current chunks. Out: a verdict, and figures that help to read it.
Invariant: an alert is a statistic above the threshold, in the units of the report, for chunks of any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats
from reference_system.monitoring.histograms import Counts, HistogramKind, RowCounts
from reference_system.monitoring.table_drift.bins import ColumnBins, TextBins
from reference_system.monitoring.table_drift.cells import CellReading
from reference_system.monitoring.table_drift.report import (
    ChunkDrift,
    ColumnFigures,
    ColumnVerdict,
    DriftSettings,
)
from reference_system.monitoring.table_drift.statistics import (
    method_of,
    readable_cells,
    scale,
    statistics,
    without_drift,
)
from reference_system.monitoring.table_drift.thresholds import FEWEST_WINDOWS, threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A column of both tables, counted.

    `windows` has shape (windows, bins), of the reference; those of `window` rows are whole. `chunks` has shape
    (chunks, bins), of `rows` rows each but for the last. `note` is for people, `reading` what texts stood for.
    """

    kind: HistogramKind
    bins: ColumnBins
    windows: RowCounts
    window: int
    chunks: RowCounts
    rows: int
    note: str
    reading: CellReading

    @property
    def total(self) -> Counts:
        """The reference's histogram."""
        # Shares of rows add up to whole ones, but for the last digit.
        total: Counts = np.rint(self.windows.sum(axis=0)).astype(np.int64)
        return total

    @property
    def reference(self) -> Counts:
        """The same as chunks meet it: with what speaks for texts that the reference does not have."""
        return self.bins.expected(self.total) if isinstance(self.bins, TextBins) else self.total

    def found(self) -> Floats:
        """The statistic of each chunk, in the units of the report.

        Psi is given as it is for chunks of `rows` rows; that of a shorter chunk as what it would be worth there.
        """
        return statistics(self.bins, self.reference, self.chunks) / self.unit

    @property
    def unit(self) -> float:
        """What turns the units of the report into those of the thresholds."""
        return scale(int(self.reference.sum()), self.rows) if method_of(self.bins) == "psi" else 1.0


def column_alerts(column: Counted, settings: DriftSettings, *, columns: int) -> ColumnVerdict:
    """The verdict on one of `columns` columns."""
    bound = (
        threshold(
            without_drift(column.bins, column.reference, column.rows),
            _of_windows(column, settings.min_rows),
            rate=settings.false_alarm_rate,
            columns=columns,
        )
        / column.unit
    )
    sizes = np.rint(column.chunks.sum(axis=1)).astype(np.int64).tolist()
    chunks = tuple(
        ChunkDrift(
            chunk=number,
            rows=size,
            statistic=value if size >= settings.min_rows else None,
            alert=size >= settings.min_rows and value > bound,
        )
        for number, (size, value) in enumerate(zip(sizes, column.found().tolist(), strict=True), start=1)
    )
    first = next((chunk.chunk for chunk in chunks if chunk.alert), None)
    return ColumnVerdict(
        kind=column.kind, method=method_of(column.bins), threshold=bound, chunks=chunks, first_alert=first
    )


def alert_figures(column: Counted, settings: DriftSettings) -> ColumnFigures:
    """Psi, Kolmogorov-Smirnov distance and missing cells of the chunk with the largest statistic."""
    missing = float(column.total[-1] / max(int(column.total.sum()), 1))
    judged = np.flatnonzero(column.chunks.sum(axis=1) >= settings.min_rows)
    if not len(judged):
        return ColumnFigures(
            chunk=None,
            psi=None,
            ks=None,
            missing_before=missing,
            missing_now=None,
            note=column.note,
            reading=column.reading,
        )
    worst = int(judged[np.argmax(column.found()[judged])])
    counts = column.chunks[worst]
    psi, distance = readable_cells(column.bins, column.reference, counts)
    return ColumnFigures(
        chunk=worst + 1,
        psi=psi,
        ks=distance,
        missing_before=missing,
        missing_now=float(counts[-1] / counts.sum()),
        note=column.note,
        reading=column.reading,
    )


def _of_windows(column: Counted, min_rows: int) -> Floats:
    """The statistic of each whole window of the reference against the rest of it."""
    whole = column.windows[np.rint(column.windows.sum(axis=1)) == column.window]
    if len(whole) < FEWEST_WINDOWS or column.window < min_rows:
        return np.empty(0)
    total = column.total
    return np.array([statistics(column.bins, total - each, each[None, :])[0] for each in whole])
