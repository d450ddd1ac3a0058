"""Calibration: scores become probabilities, their order stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_system.metrics.ranking import Ordered
from reference_system.training.evaluation.calibration import Calibration, fit_calibration
from reference_system.training.evaluation.reliability import expected_calibration_error

SLOPES = st.floats(0, 8).map(lambda slope: round(slope, 3))


def drawn(count=20_000, seed=3):
    """Probabilities, and labels drawn by them."""
    rng = np.random.default_rng(seed)
    chances = rng.beta(0.3, 6.0, count)
    return chances, (rng.random(count) < chances).astype(float)


@given(SLOPES, SLOPES, st.floats(-8, 8), st.lists(st.integers(0, 1_000), min_size=2, max_size=30, unique=True))
def test_the_order_of_scores_never_changes(a, b, c, thousandths):
    if a + b < 0.05:
        a = 1.0
    scores = np.array(sorted(thousandths)) / 1_000
    probabilities = Calibration(a=a, b=b, c=c).apply(scores)
    assert (np.diff(probabilities) >= 0).all()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("bend", [lambda p: p**2, np.sqrt, lambda p: p / (p + (1 - p) * 0.05)])
def test_bent_scores_become_probabilities_again_in_the_same_order(bend):
    chances, labels = drawn()
    calibration = fit_calibration(bend(chances), labels)
    fresh, outcomes = drawn(seed=4)
    scores = calibration.apply(bend(fresh))
    error = expected_calibration_error(scores, outcomes)
    assert error < 0.015
    assert error < expected_calibration_error(bend(fresh), outcomes) / 2
    before, after = Ordered.by(bend(fresh), outcomes), Ordered.by(scores, outcomes)
    assert after.average_precision() == pytest.approx(before.average_precision(), abs=1e-12)


def test_probabilities_stay_what_they_are():
    chances, labels = drawn()
    assert np.abs(fit_calibration(chances, labels).apply(chances) - chances).mean() < 0.01


def test_a_small_difference_of_scores_stays_a_small_one():
    chances, labels = drawn()
    calibration = fit_calibration(chances**2, labels)
    scores = np.linspace(0, 1 - 1e-7, 5_000)
    assert np.abs(calibration.apply(scores + 1e-7) - calibration.apply(scores)).max() < 2e-6


def test_scores_that_separate_the_classes_have_a_finite_map():
    labels = np.repeat([0.0, 1.0], 500)
    calibration = fit_calibration(labels, labels)
    low, high = calibration.apply(np.array([0.0, 1.0]))
    assert low < 0.01
    assert high > 0.99


def test_scores_that_order_the_labels_the_wrong_way_are_not_turned_around():
    chances, labels = drawn(2_000)
    assert fit_calibration(1 - chances, labels) is None
