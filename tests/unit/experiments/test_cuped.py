"""What viewers did before takes variance away and moves no effect."""

from __future__ import annotations

import numpy as np
import pytest

from reference_system.experiments.sequential import course
from reference_system.experiments.viewers import Activity, ExperimentViewers, expectation, outcomes

METRICS = ("watches-per-page", "watch-rate", "watch-minutes")


def did(rng, liking, pages):
    watches = rng.poisson(liking * pages).astype(float)
    return Activity(pages=pages, shown=10.0 * pages, watches=watches, minutes=rng.gamma(watches, 5.0))


def lively(rng, count, *, spread=1.2, lift=None):
    """Viewers who differ in how much they like to watch, which both spans show."""
    liking = rng.gamma(1.0 / spread, spread, count)
    before, window = rng.integers(20, 60, count).astype(float), rng.integers(1, 6, count).astype(float)
    return ExperimentViewers(
        first=np.arange(count),
        before=did(rng, liking, before),
        window=did(rng, liking * (1.0 if lift is None else lift), window),
    )


def variance_left(metric, viewers, expected):
    found = outcomes(metric, viewers.window)
    surplus = found.values - found.metric * found.per
    return np.var(surplus - expected.of(viewers)) / np.var(surplus)


@pytest.mark.parametrize("metric", METRICS)
def test_viewers_who_stay_as_they_were_lose_much_of_their_variance(metric):
    rng = np.random.default_rng(1)
    expected = expectation(metric, lively(rng, 2_000))

    assert variance_left(metric, lively(rng, 2_000), expected) < 0.8


def test_where_the_past_says_nothing_next_to_nothing_is_added():
    rng = np.random.default_rng(2)
    expected = expectation("watches-per-page", lively(rng, 2_000, spread=1e-3))

    assert variance_left("watches-per-page", lively(rng, 2_000, spread=1e-3), expected) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("metric", METRICS)
def test_the_effect_stays_what_it_is(metric):
    rng = np.random.default_rng(3)
    expected = expectation(metric, lively(rng, 2_000))
    raw, adjusted = [], []
    for _ in range(60):
        treated = rng.random(1_500) < 0.5
        viewers = lively(rng, 1_500, lift=np.where(treated, 1.2, 1.0))
        found = outcomes(metric, viewers.window)
        raw.append(course(found.values, found.per, treated).effect[-1])
        adjusted.append(course(found.values - expected.of(viewers), found.per, treated).effect[-1])

    difference = np.array(adjusted) - np.array(raw)
    assert abs(difference.mean()) < 3 * difference.std() / np.sqrt(len(difference))
    assert np.var(adjusted) < np.var(raw)


def test_viewers_without_a_past_are_expected_to_do_as_everybody():
    rng = np.random.default_rng(4)
    expected = expectation("watch-rate", lively(rng, 2_000))
    newcomers = lively(rng, 3)
    nothing = Activity(pages=np.zeros(3), shown=np.zeros(3), watches=np.zeros(3), minutes=np.zeros(3))
    unseen = ExperimentViewers(first=newcomers.first, window=newcomers.window, before=nothing)

    assert np.isfinite(expected.of(unseen)).all()
    assert len(set(expected.of(unseen))) == 1


@pytest.mark.parametrize("count", [0, 50])
def test_from_few_viewers_nothing_is_expected(count):
    assert expectation("watch-rate", lively(np.random.default_rng(5), count)) is None
