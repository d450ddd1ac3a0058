from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from reference_system.event_time import micros
from reference_system.monitoring.monitoring_run import REFERENCE_DAYS, MonitoringRun, horizons
from reference_system.use_cases import VIEWS

NOW = datetime(2025, 4, 19, 7, 30, tzinfo=UTC)
DAY = timedelta(days=1)
SCENE = MonitoringRun(
    lake=Path("lake"),
    feature_tables=Path("tables"),
    as_of=NOW,
    history_start=NOW - 100 * DAY,
    live_start=NOW - 10 * DAY,
)


def test_blocks_are_counted_back_from_now():
    moments = [NOW - timedelta(microseconds=1), NOW - DAY, NOW - DAY - timedelta(microseconds=1), NOW - 7.5 * DAY]
    assert SCENE.blocks(np.array([micros(moment) for moment in moments])).tolist() == [0, 0, 1, 7]


@pytest.mark.parametrize(("days_ago", "end"), [(0, 7), (3, 7), (7, 7), (7.1, 14), (21, 21), (22, 28)])
def test_the_reference_ends_whole_weeks_ago_at_the_latest_where_the_champion_stopped_learning(days_ago, end):
    window = SCENE.weeks_before(NOW - days_ago * DAY)
    assert window.end == NOW - end * DAY
    assert window.end - window.start == REFERENCE_DAYS * DAY


def test_the_reference_does_not_begin_before_the_history():
    window = SCENE.weeks_before(NOW - 90 * DAY)
    assert (window.start, window.end) == (SCENE.history_start, NOW - 91 * DAY)
    window = SCENE.weeks_before(NOW - 200 * DAY)
    assert window.start == window.end == SCENE.history_start


@pytest.mark.parametrize("days_ago", [60, 90, 1_000])
def test_the_reference_of_an_old_champion_is_the_oldest_weeks_that_are_kept(days_ago):
    run = replace(SCENE, history_start=NOW - 500 * DAY, kept_from=NOW - 80 * DAY)
    window = run.weeks_before(NOW - days_ago * DAY)
    assert window.end - window.start == REFERENCE_DAYS * DAY
    assert run.kept_from <= window.start < run.kept_from + 14 * DAY
    assert run.weeks_before(NOW - 22 * DAY) == SCENE.weeks_before(NOW - 22 * DAY)


def test_rows_of_windows_that_were_still_filling_are_left_out():
    times = np.array([micros(NOW - days * DAY) for days in (1, 5, 9)])
    sample = SCENE.sample(times, np.array([1.0, 5.0, 9.0]), since=NOW - 6 * DAY, empty="")
    assert sample.values.tolist() == [1.0, 5.0]


def test_a_delayed_window_is_full_after_its_delay_and_its_width():
    assert horizons(VIEWS)["terminal_fraud_rate_30d"] == 37 * DAY
    assert horizons(VIEWS)["customer_mean_amount_1d"] == DAY
