"""The run file and the tables of a benchmark.

In: a benchmark's result. Out: `<state_dir>/bench/<name>-<moment>.json`, and tables for people.
Invariant: a run file has machine, commit, versions and command, without which its figures mean nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from rich.table import Table

from reference_system.clock import wall_now
from reference_system.paths import StatePaths
from reference_system.proofs.benchmarks.result import BenchResult
from reference_system.stack.run_facts import RunFacts, run_facts

if TYPE_CHECKING:
    from pathlib import Path

    from reference_system.settings import Settings

_PACKAGES = ("deltalake", "duckdb", "feast", "kafka-python", "msgspec", "numpy", "pyarrow")


class BenchRun(msgspec.Struct, frozen=True, kw_only=True):
    """One call of `workbook bench`."""

    command: str
    moment: str
    facts: RunFacts
    result: BenchResult


def write_bench_run(settings: Settings, command: str, result: BenchResult) -> tuple[BenchRun, Path]:
    """Write the result with the facts of its run."""
    moment = wall_now().strftime("%Y%m%dT%H%M%SZ")
    run = BenchRun(command=command, moment=moment, facts=run_facts(*_PACKAGES), result=result)
    folder = StatePaths(settings.state_dir).bench_runs
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"{result.name}-{moment}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(run)))
    return run, path


def figures_table(result: BenchResult) -> Table:
    """One row per contender; the ratio is to the first one with the same unit."""
    table = Table(box=None, pad_edge=False)
    for heading in ("what", "median", "unit", "ratio", "spread", "laps"):
        table.add_column(heading, justify="right" if heading in ("median", "ratio", "spread", "laps") else "left")
    first: dict[str, float] = {}
    for figure in result.figures:
        reference = first.setdefault(figure.unit, figure.median)
        times = f"{figure.median / reference:.2f}" if reference else ""
        what = f"{figure.what} ({figure.note})" if figure.note else figure.what
        spread = f"{figure.spread:.0%}" if len(figure.laps) > 1 else ""
        table.add_row(what, _short(figure.median), figure.unit, times, spread, str(len(figure.laps)))
    return table


def goals_table(result: BenchResult) -> Table:
    """One row per goal."""
    table = Table(box=None, pad_edge=False)
    for heading in ("goal", "found", "bound", "reached"):
        table.add_column(heading, justify="left" if heading in ("goal", "bound", "reached") else "right")
    for goal in result.goals:
        reached = "[green]yes[/green]" if goal.reached else "[red]no[/red]"
        table.add_row(goal.what, _short(goal.found), f"{goal.kind} {_short(goal.bound)}", reached)
    return table


def _short(figure: float) -> str:
    """Three digits, without an exponent."""
    if figure == 0 or abs(figure) >= 100:  # noqa: PLR2004 - three digits before the point
        return f"{figure:,.0f}"
    return f"{figure:#.3g}"
