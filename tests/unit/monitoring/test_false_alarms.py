"""How often windows without drift raise an alarm: the rate that reports state, measured.

The floor `MATERIAL_PSI` is taken away, so that what is measured is the calibration alone.
"""

import numpy as np
import pytest

from reference_system.monitoring import drift
from reference_system.monitoring.drift import LOOP_FALSE_ALARM_RATE, ColumnSample, compare_column

WINDOWS = 200
ROWS = 150
CUSTOMERS = 30
# With a true rate of 1 %, more than 6 of 200 happen in less than one of 200 such measurements.
MOST_ALARMS = 6


def window(seed, *, blocks, mood, weekend=0.3, mostly_zero=False, shift=0.0):  # noqa: PLR0913 - what a world has
    """Days with a mood of their own and rows that belong to customers, so that rows are alike."""
    rng = np.random.default_rng(seed)
    parts = []
    for block in blocks:
        if mostly_zero:
            share = np.clip(0.04 + 0.1 * mood * rng.normal(), 0.002, 1.0)
            parts.append(np.where(rng.random(ROWS) < share, rng.random(ROWS), 0.0))
            continue
        customers = rng.normal(size=CUSTOMERS)[rng.integers(0, CUSTOMERS, ROWS)]
        centre = mood * rng.normal() + weekend * (block % 7 in (0, 1)) + shift * (block < 2)
        parts.append(centre + 0.7 * customers + 0.7 * rng.normal(size=ROWS))
    return ColumnSample(values=np.concatenate(parts), blocks=np.repeat(np.array(blocks), ROWS))


def alarms(reference_blocks, **kwargs):
    shift = kwargs.pop("shift", 0.0)
    found = 0
    for seed in range(WINDOWS):
        reference = window([seed, 0], blocks=reference_blocks, **kwargs)
        recent = window([seed, 1], blocks=range(7), shift=shift, **kwargs)
        found += compare_column("x", reference, recent).status == "drift"
    return found


@pytest.fixture(autouse=True)
def _without_the_floor(monkeypatch):
    monkeypatch.setattr(drift, "MATERIAL_PSI", 0.0)


@pytest.mark.parametrize(
    ("reference_blocks", "kind"),
    [
        pytest.param(range(7, 35), {"mood": 0.0}, id="four weeks of days that are alike"),
        pytest.param(range(7, 35), {"mood": 0.15}, id="four weeks of days with moods"),
        # Less than two weeks cannot tell weekdays apart, so here there are none.
        pytest.param(range(2, 12), {"mood": 0.15, "weekend": 0.0}, id="ten days"),
        pytest.param(range(7, 35), {"mood": 0.05, "mostly_zero": True}, id="a column that is mostly zero"),
    ],
)
def test_windows_without_drift_raise_no_more_alarms_than_stated(reference_blocks, kind):
    assert LOOP_FALSE_ALARM_RATE == 0.01
    assert alarms(reference_blocks, **kind) <= MOST_ALARMS


def test_the_same_days_with_a_planted_shift_raise_an_alarm():
    assert alarms(range(7, 35), mood=0.15, shift=1.2) >= 0.95 * WINDOWS
