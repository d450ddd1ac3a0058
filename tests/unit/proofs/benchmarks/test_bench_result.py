"""Figures and goals of a benchmark."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from reference_system.proofs.benchmarks.report import figures_table, goals_table, write_bench_run
from reference_system.proofs.benchmarks.result import BenchFigure, BenchGoal, BenchResult, figure_ratio

RESULT = BenchResult(
    name="example",
    conditions={"rows": "10"},
    figures=[
        BenchFigure(what="least", unit="µs", laps=[2.0, 1.0, 3.0]),
        BenchFigure(what="ours", unit="µs", laps=[4.0, 5.0, 6.0]),
        BenchFigure(what="memory", unit="MB", laps=[12_345.6]),
    ],
    goals=[
        BenchGoal(what="least against ours", found=0.4, bound=0.333, kind="at least"),
        BenchGoal(what="memory", found=12_345.6, bound=1_500.0, kind="at most"),
    ],
)


def shown(table: object) -> str:
    console = Console(width=140)
    with console.capture() as text:
        console.print(table)
    return text.get()


def test_a_figure_is_its_median_and_its_spread():
    figure = RESULT.figures[0]

    assert (figure.median, figure.spread) == (2.0, 1.0)


def test_a_ratio_compares_lap_by_lap():
    # In the last lap the machine was busy for both.
    assert figure_ratio([10.0, 20.0, 300.0], [1.0, 2.0, 30.0]) == 10.0


def test_a_ratio_of_unequal_laps_is_refused():
    with pytest.raises(ValueError, match="zip"):
        figure_ratio([1.0], [1.0, 2.0])


def test_a_bound_is_kept_in_its_own_direction():
    assert [goal.reached for goal in RESULT.goals] == [True, False]


def test_the_tables_show_ratios_within_a_unit_and_which_goal_is_missed():
    figures = [line.split() for line in shown(figures_table(RESULT)).splitlines()]
    goals = [line.split() for line in shown(goals_table(RESULT)).splitlines()]

    assert ["ours", "5.00", "µs", "2.50", "40%", "3"] in figures
    assert ["memory", "12,346", "MB", "1.00", "1"] in figures
    assert [line[-1] for line in goals[1:]] == ["yes", "no"]


def test_a_run_file_says_where_the_figures_come_from(settings):
    _, path = write_bench_run(settings, "workbook bench example", RESULT)
    run = json.loads(path.read_bytes())

    assert path.parent == settings.state_dir / "bench"
    assert run["command"] == "workbook bench example"
    assert run["facts"]["machine"]["cores"] >= 1
    assert run["result"]["figures"][1]["laps"] == [4.0, 5.0, 6.0]
