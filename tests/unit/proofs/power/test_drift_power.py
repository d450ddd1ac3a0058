"""The power of drift detection, in a short form."""

import pytest

from reference_system.proofs.power.drift_power import (
    LIVE_PLANTED,
    PLANTED_ROWS,
    PowerCell,
    PowerResult,
    _goals,
    _live_alarms,
    _live_power,
    _table_alarms,
    _table_power,
)


def cell(**kwargs):
    return PowerCell(**({"method": "table", "change": "none", "size": 0.0, "rows": 500, "trials": 100} | kwargs))


def test_the_live_monitor_is_quiet_without_drift_and_loud_after_a_planted_shift():
    assert _live_alarms(20, seed=1).alarms <= 1
    assert _live_power(LIVE_PLANTED, 4, seed=1).alarms == 4


def test_the_same_seed_gives_the_same_counts():
    assert _table_power("mean", 0.1, 500, 3, seed=3) == _table_power("mean", 0.1, 500, 3, seed=3)


def test_windows_without_drift_are_counted_one_by_one():
    assert _table_alarms(30, 500, seed=2).trials == 30


def test_goals_are_judged_by_the_worst_rate_and_each_planted_change():
    cells = [
        cell(alarms=0),
        cell(alarms=2, rows=1_000),
        cell(change="mean", size=0.3, rows=PLANTED_ROWS, alarms=99),
        cell(change="mean", size=0.1, rows=PLANTED_ROWS, alarms=10),
        cell(method="live", alarms=1),
        cell(method="live", change="mean", size=LIVE_PLANTED, alarms=90),
    ]
    goals = {goal.what: (goal.found, goal.reached) for goal in _goals(cells)}
    assert list(goals.values()) == [(0.02, False), (0.99, True), (0.01, True), (0.9, False)]


@pytest.mark.parametrize(("alarms", "low", "high"), [(0, 0.0, 0.037), (50, 0.404, 0.596), (100, 0.963, 1.0)])
def test_each_share_has_its_interval(alarms, low, high):
    from reference_system.proofs.power.matplotlib_power import true_share_interval

    assert true_share_interval(cell(alarms=alarms)) == pytest.approx((low, high), abs=0.001)


def test_the_curve_is_a_picture():
    from reference_system.proofs.power.drift_power import LIVE_SHIFTS, ROWS, SHIFTS
    from reference_system.proofs.power.matplotlib_power import draw_power

    cells = [cell(rows=rows, alarms=1) for rows in ROWS]
    cells += [cell(change="mean", size=size, rows=rows, alarms=50) for rows in ROWS for size in SHIFTS]
    cells += [cell(method="live", change="mean", size=size, rows=600, alarms=50) for size in LIVE_SHIFTS]
    picture = draw_power(PowerResult(seed=1, windows=100, cells=cells, goals=[]), title="power")
    assert picture.startswith(b"\x89PNG")
