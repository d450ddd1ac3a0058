"""What `workbook drift` prints for people.

In: what was found. Out: tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from reference_system.monitoring.table_drift.report import ChunkDrift, ColumnVerdict, TableDrift
    from reference_system.proofs.power.drift_power import PowerResult

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 24


def verdict_table(found: TableDrift) -> Table:
    """One row a column, those with an alert first."""
    table = Table(box=None, pad_edge=False)
    for heading in ("column", "kind", "method", "worst", "statistic", "threshold", "psi", "verdict", "chunks"):
        table.add_column(heading, justify="right" if heading in {"worst", "statistic", "threshold", "psi"} else "left")
    order = sorted(
        found.columns, key=lambda name: found.columns[name].first_alert or len(found.columns[name].chunks) + 1
    )
    for name in order:
        column, figures = found.columns[name], found.figures[name]
        largest = max((chunk.statistic or 0.0 for chunk in column.chunks), default=0.0)
        table.add_row(
            escape(name),
            column.kind,
            column.method,
            "" if figures.chunk is None else str(figures.chunk),
            f"{largest:.4g}",
            f"{column.threshold:.4g}",
            "" if figures.psi is None else f"{figures.psi:.3f}",
            _verdict(column),
            sparkline(column.chunks, column.threshold),
        )
    return table


def power_table(found: PowerResult) -> Table:
    """One row a setting."""
    table = Table(box=None, pad_edge=False)
    for heading in ("method", "change", "size", "rows of a window", "trials", "alarms", "share"):
        table.add_column(heading, justify="left" if heading in {"method", "change"} else "right")
    for cell in found.cells:
        table.add_row(
            cell.method,
            cell.change,
            f"{cell.size:g}" if cell.size else "",
            f"{cell.rows:,}",
            f"{cell.trials:,}",
            f"{cell.alarms:,}",
            f"{cell.share:.1%}",
        )
    return table


def sparkline(chunks: Sequence[ChunkDrift], threshold: float) -> str:
    """A bar a chunk, the threshold at half height; of many chunks each bar is the largest of several."""
    each = -(-len(chunks) // _WIDEST)
    bars = []
    for start in range(0, len(chunks), each):
        group = chunks[start : start + each]
        height = max(chunk.statistic or 0.0 for chunk in group) / max(threshold, 1e-12)
        bar = _BARS[min(int(height * len(_BARS) / 2), len(_BARS) - 1)]
        bars.append(f"[red]{bar}[/red]" if any(chunk.alert for chunk in group) else bar)
    return "".join(bars)


def _verdict(column: ColumnVerdict) -> str:
    alerts = sum(chunk.alert for chunk in column.chunks)
    if not alerts:
        judged = sum(chunk.statistic is not None for chunk in column.chunks)
        return "steady" if judged else "not judged"
    return f"[red]drift[/red] in {alerts} of {len(column.chunks)}, first in {column.first_alert}"
