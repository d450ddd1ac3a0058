"""`workbook bench drift`: our drift report compared with Evidently's, on the same two tables in memory.

In: rows, columns, laps. Out: CPU seconds of Evidently's report with psi, of our whole report, and of our computation
of Evidently's psi; and the largest difference between the last and Evidently's own values.
Invariant: contenders are measured in turn in one process, each on the table format that it takes (pandas, Arrow);
imports and a first lap of ours are not counted.

Evidently's psi takes its bins from both tables (of equal width, as many as by Sturges' rule) and has no bin for
missing values. Ours takes its bins from the reference alone. So "equal statistics" means Evidently's definition,
computed our way: each table is counted in one pass, counts are added, shares are computed last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import process_time

import numpy as np
import pandas as pd
import pyarrow as pa

from reference_system.arrays import Floats
from reference_system.monitoring.table_drift.cells import encoded
from reference_system.monitoring.table_drift.columns import ColumnBatch, TableView, held
from reference_system.monitoring.table_drift.comparison import compare_tables
from reference_system.monitoring.table_drift.report import DriftSettings
from reference_system.progress import Progress
from reference_system.proofs.benchmarks.result import BenchFigure, BenchGoal, BenchResult, figure_ratio

ROWS, COLUMNS, LAPS = 100_000, 30, 3
FASTER = 50.0
_EQUAL = 1e-9
_SEED = 7
# One column in five has texts.
_TEXTS_SHARE = 5
_BATCH = 65_536
# Evidently replaces a share of zero by _SMALL; if the smallest share is as small, by that share / _SMALLER.
_SMALL, _SMALLER = 1e-4, 1e6


def measure_drift(*, rows: int, columns: int, laps: int, progress: Progress) -> BenchResult:
    """Measure; `progress` is called with the share done (0 to 1) and a message."""
    progress(0.0, "importing Evidently")
    from reference_system.monitoring.table_drift.evidently_report import run_preset

    before, now = two_tables(rows, columns, 0), two_tables(rows, columns, 1)
    frames = [pd.DataFrame({name: cells.to_pandas() for name, cells in table.items()}) for table in (before, now)]
    texts = [name for name, cells in before.items() if pa.types.is_string(cells.type)]
    contenders: dict[str, Callable[[], object]] = {
        "evidently": lambda: run_preset(frames[0], frames[1], texts, "psi"),
        "report": lambda: compare_tables(held(_view(before)), held(_view(now)), DriftSettings()),
        "equal": lambda: evidently_psi(before, now),
    }
    contenders["report"]()
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for lap in range(laps):
        for name, contender in contenders.items():
            progress((lap + 0.1) / laps, f"lap {lap + 1} of {laps}: {name}")
            began = process_time()
            contender()
            cpu[name].append(process_time() - began)
    progress(0.95, "comparing the values")
    theirs, ours = run_preset(frames[0], frames[1], texts, "psi"), evidently_psi(before, now)
    progress(1.0, "done")
    return _result(rows, columns, cpu, max(abs(theirs[name] - value) for name, value in ours.items()))


def two_tables(rows: int, columns: int, number: int) -> ColumnBatch:
    """One of the two tables: texts, and numbers that differ slightly between the tables."""
    rng = np.random.default_rng([_SEED, number])
    texts = np.array(["a", "b", "c", "d", "e", "?"])
    found: dict[str, pa.Array] = {}
    for place in range(columns):
        if place % _TEXTS_SHARE == _TEXTS_SHARE - 1:
            found[f"text_{place}"] = pa.array(rng.choice(texts, rows))
        else:
            found[f"number_{place}"] = pa.array(rng.normal(0.01 * place * number, 1.0, rows))
    return found


def evidently_psi(before: ColumnBatch, now: ColumnBatch) -> dict[str, float]:
    """Evidently's psi of each column, from counts."""
    found = {}
    for name, cells in before.items():
        count = _count_texts if pa.types.is_string(cells.type) else _count_numbers
        shares = [counts / len(cells) for counts in count(cells, now[name])]
        p, q = (np.where(each == 0.0, _instead_of_zero(each), each) for each in shares)
        found[name] = float(((p - q) * np.log(p / q)).sum())
    return found


def _count_numbers(before: pa.Array, now: pa.Array) -> tuple[Floats, Floats]:
    values = [cells.to_numpy() for cells in (before, now)]
    low, high = min(each.min() for each in values), max(each.max() for each in values)
    width = (high - low) / (np.log2(sum(map(len, values))) + 1.0)
    bins = int(np.ceil((high - low) / width))
    one, other = (np.histogram(each, bins, range=(low, high))[0].astype(np.float64) for each in values)
    return one, other


def _count_texts(before: pa.Array, now: pa.Array) -> tuple[Floats, Floats]:
    counted = []
    for cells in (before, now):
        codes = encoded(cells)
        rows = np.bincount(codes.indices.to_numpy(), minlength=len(codes.dictionary))
        counted.append(dict(zip(codes.dictionary.to_pylist(), rows.tolist(), strict=True)))
    keys = sorted(set().union(*counted))
    one, other = (np.array([counts.get(key, 0) for key in keys], np.float64) for counts in counted)
    return one, other


def _instead_of_zero(shares: Floats) -> float:
    smallest = float(shares[shares > 0.0].min())
    return smallest / _SMALLER if smallest <= _SMALL else _SMALL


def _view(table: ColumnBatch) -> TableView:
    rows = len(next(iter(table.values())))

    def batches() -> Iterator[ColumnBatch]:
        for start in range(0, rows, _BATCH):
            yield {name: cells.slice(start, _BATCH) for name, cells in table.items()}

    return TableView(name="table", types={name: cells.type for name, cells in table.items()}, batches=batches)


def _result(rows: int, columns: int, cpu: dict[str, list[float]], difference: float) -> BenchResult:
    unit = "CPU s"
    shown = {
        "evidently": "Evidently: DataDriftPreset, psi",
        "report": "ours: kinds, bins, counts, calibrated thresholds, results",
        "equal": "ours: Evidently's psi, counted in one pass",
    }
    return BenchResult(
        name="drift",
        conditions={
            "tables": f"two of {rows:,} rows × {columns} columns in memory, one column in {_TEXTS_SHARE} of texts",
            "equal statistics": f"largest difference from Evidently's psi over all columns: {difference:.1e}",
        },
        figures=[BenchFigure(what=shown[name], unit=unit, laps=laps) for name, laps in cpu.items()],
        goals=[
            BenchGoal(
                what="Evidently against ours, equal statistics",
                found=figure_ratio(cpu["evidently"], cpu["equal"]),
                bound=FASTER,
                kind="at least",
            ),
            BenchGoal(
                what="Evidently against our whole report",
                found=figure_ratio(cpu["evidently"], cpu["report"]),
                bound=FASTER,
                kind="at least",
            ),
            BenchGoal(what="largest difference of psi, in 1e-9", found=difference / _EQUAL, bound=1.0, kind="at most"),
        ],
    )
