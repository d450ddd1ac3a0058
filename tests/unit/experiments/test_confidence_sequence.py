"""The test that may be looked at at any time, and the one that may not."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from reference_system.experiments.sequential import ALPHA, FEWEST, course, outcomes_needed
from reference_system.experiments.simulation import Pool, SimulationPlan, simulate_experiments
from reference_system.experiments.viewers import Outcomes

RUNS = 300
THREE_ERRORS = 3 * np.sqrt(ALPHA * (1 - ALPHA) / RUNS)


def skewed_viewers(count=4_000):
    """Pages and watches as skewed as real ones: most viewers open a page or two, some a dozen."""
    rng = np.random.default_rng(3)
    pages = rng.geometric(0.35, count).astype(float)
    liking = rng.gamma(2.0, 0.4, count)
    watches = rng.poisson(liking * pages).astype(float)
    expected = 0.5 * (liking - 0.8) * pages.mean()
    return Pool(outcomes=Outcomes(values=watches, per=pages), expected=expected)


@cache
def simulated(effect=0.0, peeks="every"):
    plan = SimulationPlan(runs=RUNS, viewers=2_000, peeks=peeks, effect=effect)
    found = simulate_experiments(skewed_viewers(), plan, np.random.default_rng(11), lambda _: None)
    return {rates.test: rates for rates in (*found.tests, *found.ratio_alarms)}


@pytest.mark.parametrize("peeks", ["every", "daily"])
@pytest.mark.parametrize("test", ["confidence sequence", "confidence sequence with CUPED"])
def test_looking_all_the_time_at_arms_that_are_alike_is_wrong_at_most_as_often_as_stated(peeks, test):
    assert simulated(peeks=peeks)[test].said <= ALPHA + THREE_ERRORS


def test_a_t_test_that_is_believed_at_every_look_is_wrong_far_more_often():
    found = simulated()

    assert found["t-test, believed at every look"].said > 5 * ALPHA
    assert found["t-test, once at the end"].said <= ALPHA + THREE_ERRORS


@pytest.mark.parametrize("effect", [0.0, 0.25])
def test_the_interval_holds_the_truth_at_every_look_at_once(effect):
    assert simulated(effect)["confidence sequence with CUPED"].missed <= ALPHA + THREE_ERRORS


def test_an_effect_is_found_and_sooner_with_what_viewers_did_before():
    found = simulated(0.25)

    assert found["confidence sequence"].said > 0.9
    assert found["confidence sequence with CUPED"].median_viewers < found["confidence sequence"].median_viewers


def test_a_fair_coin_is_suspected_by_a_chi_square_at_every_look_and_not_by_ours():
    found = simulated()

    assert found["sample ratio, always valid"].said <= 0.001 + 3 * np.sqrt(0.001 / RUNS)
    assert found["sample ratio, chi-square at every look"].said > 0.005


def test_the_same_seed_gives_the_same_figures():
    plan = SimulationPlan(runs=20, viewers=500, peeks="daily", effect=0.1)
    first, second = (
        simulate_experiments(skewed_viewers(), plan, np.random.default_rng(1), lambda _: None) for _ in range(2)
    )

    assert first == second


def halves(count):
    return np.arange(count) % 2 == 0


def test_the_effect_is_the_difference_of_the_metrics_and_its_error_that_of_the_delta_method():
    rng = np.random.default_rng(5)
    per = rng.integers(1, 9, 5_000).astype(float)
    values, treated = rng.poisson(per), halves(5_000)

    found = course(values.astype(float), per, treated)

    parts = [(values[rows], per[rows]) for rows in (treated, ~treated)]
    one, other = (value.sum() / unit.sum() for value, unit in parts)
    error = sum(
        np.var(value - value.sum() / unit.sum() * unit, ddof=1) / len(value) / unit.mean() ** 2
        for value, unit in parts
    )
    assert found.effect[-1] == pytest.approx(one - other)
    assert found.one_look[-1] == pytest.approx(1.95996 * np.sqrt(error), rel=1e-4)
    assert found.half_width[-1] > found.one_look[-1]


def test_nothing_is_said_before_both_arms_have_enough_viewers():
    values = halves(4 * FEWEST).astype(float)  # the arms could not differ more
    found = course(values, np.ones(4 * FEWEST), halves(4 * FEWEST))

    assert np.isinf(found.half_width[: 2 * FEWEST - 1]).all()
    assert found.first_sure() == 2 * FEWEST - 1
    assert course(values, np.ones(4 * FEWEST), np.ones(4 * FEWEST, bool)).first_sure() == -1


def test_outcomes_that_are_all_alike_make_nothing_sure():
    found = course(np.full(400, 0.1), np.ones(400), halves(400))

    assert found.first_sure() == -1
    assert found.half_width[-1] == 0.0


def test_an_unequal_share_is_compared_as_well():
    rng = np.random.default_rng(8)
    treated = rng.random(6_000) < 0.1
    found = course(rng.normal(1.0 + 0.5 * treated), np.ones(6_000), treated)

    assert found.first_sure() > 0
    assert found.effect[-1] == pytest.approx(0.5, abs=found.half_width[-1])


def test_as_many_viewers_are_asked_for_as_then_decide():
    rng = np.random.default_rng(2)
    values = rng.normal(size=40_000) + 0.1 * halves(40_000)
    found = course(values, np.ones(40_000), halves(40_000))

    needed = outcomes_needed(0.1, found.half_width[999], 1_000)

    assert found.half_width[999 + needed] == pytest.approx(0.1, rel=0.05)
    assert outcomes_needed(0.1, 0.05, 1_000) == 0
    assert outcomes_needed(1e-6, found.half_width[999], 1_000) is None
