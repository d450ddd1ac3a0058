"""`workbook drift power`: how often windows without drift raise an alarm, and how often planted shifts do.

In: a number of windows, a seed. Out: counts for both methods, the report's on any table and the live monitor's.
Invariant: every window without drift has the distribution of its reference, and every reference is a new sample; an
alarm of any column counts.

A shift is detected if one of the first three windows after it has an alarm in the shifted column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.monitoring.drift import ColumnSample, compare_columns
from reference_system.monitoring.table_drift.columns import ColumnBatch, TableView
from reference_system.monitoring.table_drift.comparison import compare_tables
from reference_system.monitoring.table_drift.report import FALSE_ALARM_RATE, DriftSettings
from reference_system.progress import Progress
from reference_system.proofs.benchmarks.result import BenchGoal

ROWS = (500, 1_000, 2_000, 5_000)
SHIFTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
LIVE_SHIFTS = (0.25, 0.5, 0.75, 1.0, 1.5)
WITHIN = 3
POWER = 0.95
# The goal covers shifts that matter in practice; smaller ones are in the curve.
PLANTED, PLANTED_ROWS = 0.3, 1_000
LIVE_PLANTED = 1.0
_REFERENCE_WINDOWS = 20
_WINDOWS_OF_A_TABLE = 20
_TRIALS_SHARE = 10
_LIVE_ROWS = 300
_CUSTOMERS = 60
_MOOD = 0.1
_WEEKEND = 0.3
_REFERENCE_DAYS, _RECENT_DAYS = range(7, 35), range(7)

Method = Literal["table", "live"]
# The changes to a table, and their sizes.
CHANGES = {"mean": 0.3, "spread": 0.3, "category": 0.1, "missing": 0.05, "new text": 0.02}
_MOVES = {"mean": "mean", "spread": "spread", "category": "category", "missing": "missing", "new text": "symbols"}


class PowerCell(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: `alarms` in `trials`; size 0 is no change."""

    method: Method
    change: str
    size: float
    rows: int
    trials: int
    alarms: int

    @property
    def share(self) -> float:
        """The share of trials with an alarm."""
        return self.alarms / self.trials


class PowerResult(msgspec.Struct, frozen=True, kw_only=True):
    """All settings, and the goals."""

    seed: int
    windows: int
    cells: list[PowerCell]
    goals: list[BenchGoal]


def measure_power(*, windows: int, seed: int, progress: Progress) -> PowerResult:
    """Measure; `progress` is called with the share done (0 to 1) and a message."""
    trials = max(windows // _TRIALS_SHARE, 1)
    steps = list(_steps(windows, trials, seed))
    cells = []
    for number, (text, measure) in enumerate(steps):
        progress(number / len(steps), text)
        cells.append(measure())
    progress(1.0, "done")
    return PowerResult(seed=seed, windows=windows, cells=cells, goals=_goals(cells))


def _steps(windows: int, trials: int, seed: int) -> Iterator[tuple[str, Callable[[], PowerCell]]]:
    for rows in ROWS:
        text = f"table: {windows:,} windows of {rows:,} rows without drift"
        yield text, partial(_table_alarms, windows, rows, seed)
    planted = [("mean", size, rows) for rows in ROWS for size in SHIFTS]
    planted += [(change, size, PLANTED_ROWS) for change, size in CHANGES.items() if change != "mean"]
    for change, size, rows in planted:
        text = f"table: {trials:,} times, {change} changed by {size:g}, {rows:,} rows"
        yield text, partial(_table_power, change, size, rows, trials, seed)
    yield f"live: {windows:,} windows without drift", partial(_live_alarms, windows, seed)
    for size in LIVE_SHIFTS:
        yield f"live: {trials:,} times, mean changed by {size:g}", partial(_live_power, size, trials, seed)


def drawn_table(rng: np.random.Generator, rows: int, change: str = "", size: float = 0.0) -> TableView:
    """A random table: five columns that may change, and numbers and texts of other distributions that do not."""
    of = {name: size if name == change else 0.0 for name in CHANGES}
    texts = np.array(["a", "b", "c", "d"])
    symbols = rng.choice(np.array(["?", "n/a", "#1", "ok"]), rows, p=[0.05, 0.05, 0.1, 0.8])
    gone = rng.random(rows) < 0.05 + of["missing"]
    columns: ColumnBatch = {
        "mean": pa.array(rng.normal(of["mean"], 1.0, rows)),
        "spread": pa.array(rng.normal(0.0, 1.0 + of["spread"], rows)),
        "category": pa.array(rng.choice(texts, rows, p=[0.5 - of["category"], 0.3, 0.15, 0.05 + of["category"]])),
        "missing": pa.array(rng.lognormal(size=rows), mask=gone),
        "symbols": pa.array(np.where(rng.random(rows) < of["new text"], "new", symbols)),
        "counts": pa.array(rng.poisson(3.0, rows)),
        "mostly_zero": pa.array(np.where(rng.random(rows) < 0.9, 0.0, rng.random(rows))),  # noqa: PLR2004 - nine in ten
        "flag": pa.array(rng.random(rows) < 0.02),  # noqa: PLR2004 - one row in fifty
        "many_texts": pc.binary_join_element_wise("t", pa.array(rng.zipf(1.6, rows) % 5_000).cast(pa.string()), ""),
    }
    types = {name: cells.type for name, cells in columns.items()}
    return TableView(name="drawn", types=types, batches=lambda: iter([columns]))


def _table_alarms(windows: int, rows: int, seed: int) -> PowerCell:
    tables = -(-windows // _WINDOWS_OF_A_TABLE)
    alarms = 0
    for number in range(tables):
        rng = np.random.default_rng([seed, 0, rows, number])
        judged = min(_WINDOWS_OF_A_TABLE, windows - number * _WINDOWS_OF_A_TABLE)
        reference, current = drawn_table(rng, _REFERENCE_WINDOWS * rows), drawn_table(rng, judged * rows)
        found = compare_tables(reference, current, DriftSettings(chunk_size=rows))
        each = [[chunk.alert for chunk in column.chunks] for column in found.columns.values()]
        alarms += int(np.array(each).any(axis=0).sum())
    return PowerCell(method="table", change="none", size=0.0, rows=rows, trials=windows, alarms=alarms)


def _table_power(change: str, size: float, rows: int, trials: int, seed: int) -> PowerCell:
    alarms = 0
    for number in range(trials):
        rng = np.random.default_rng([seed, 1, rows, number])
        reference, current = drawn_table(rng, _REFERENCE_WINDOWS * rows), drawn_table(rng, WITHIN * rows, change, size)
        found = compare_tables(reference, current, DriftSettings(chunk_size=rows))
        alarms += found.columns[_MOVES[change]].first_alert is not None
    return PowerCell(method="table", change=change, size=size, rows=rows, trials=trials, alarms=alarms)


def _live_alarms(windows: int, seed: int) -> PowerCell:
    alarms = 0
    for number in range(windows):
        reference, recent = _live([seed, 2, number], _REFERENCE_DAYS), _live([seed, 3, number], _RECENT_DAYS)
        alarms += any(column.status == "drift" for column in compare_columns(reference, recent))
    return PowerCell(method="live", change="none", size=0.0, rows=2 * _LIVE_ROWS, trials=windows, alarms=alarms)


def _live_power(size: float, trials: int, seed: int) -> PowerCell:
    """The monitor runs one, two and three days after the shift."""
    alarms = 0
    for number in range(trials):
        reference = _live([seed, 4, number], _REFERENCE_DAYS)
        looks = (_live([seed, 5, number], _RECENT_DAYS, size, since) for since in range(1, WITHIN + 1))
        alarms += any(
            column.column == "amount" and column.status == "drift"
            for recent in looks
            for column in compare_columns(reference, recent)
        )
    return PowerCell(method="live", change="mean", size=size, rows=2 * _LIVE_ROWS, trials=trials, alarms=alarms)


def _live(seed: list[int], days: range, size: float = 0.0, since: int = 0) -> dict[str, ColumnSample]:
    """Days like the live system's: each has a random offset, weekends differ, rows of one customer are correlated."""
    rng = np.random.default_rng(seed)
    rows = len(days) * _LIVE_ROWS
    blocks = np.repeat(np.array(days), _LIVE_ROWS)
    owners = rng.integers(0, _CUSTOMERS, rows)
    mood = np.repeat(rng.normal(0.0, _MOOD, len(days)), _LIVE_ROWS)
    weekend = _WEEKEND * (blocks % 7 <= 1)
    amount = mood + weekend + np.sqrt(0.1) * rng.normal(size=_CUSTOMERS)[owners] + np.sqrt(0.9) * rng.normal(size=rows)
    rate = np.where(rng.random(rows) < 0.05 * np.exp(mood), rng.random(rows), 0.0)
    category = np.array(["news", "sport", "film"])[np.digitize(rng.normal(size=rows) + mood, [-0.5, 0.8])]
    columns = {
        "amount": amount + size * (blocks < since),
        "count": np.floor(np.exp(1.0 + 0.5 * rng.normal(size=rows) + mood)),
        "rate": rate,
        "category": category,
    }
    return {name: ColumnSample(values=values, blocks=blocks) for name, values in columns.items()}


def _goals(cells: list[PowerCell]) -> list[BenchGoal]:
    goals = []
    for method in ("table", "live"):
        ours = [cell for cell in cells if cell.method == method]
        most = max(cell.share for cell in ours if cell.change == "none")
        goals.append(
            BenchGoal(
                what=f"{method}: windows without drift that raise an alarm",
                found=most,
                bound=FALSE_ALARM_RATE,
                kind="at most",
            )
        )
        goals += [
            BenchGoal(
                what=f"{method}: {cell.change} changed by {cell.size:g}, {cell.rows:,} rows, alarm within {WITHIN}",
                found=cell.share,
                bound=POWER,
                kind="at least",
            )
            for cell in ours
            if _is_planted(cell)
        ]
    return goals


def _is_planted(cell: PowerCell) -> bool:
    if cell.method == "live":
        return cell.change == "mean" and cell.size == LIVE_PLANTED
    return cell.rows == PLANTED_ROWS and cell.size == CHANGES.get(cell.change)
