"""Off-policy evaluation where the truth is known: pages of the world's own policy, watches of known chances."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference_system.errors import TrainingError
from reference_system.training.recommendation.off_policy import LoggedMatches, difference, estimate_off_policy
from reference_system.world.recommendation.page_policy import draw_pages, inclusion

VIDEOS, VIEWERS, PAGES, LENGTH = 80, 150, 1_500, 10
EXAMINED = np.arange(1, LENGTH + 1) ** -0.7


def world(seed, *, mistakes=1.0):
    """Matches of a ranker with logged pages, and what its pages would really bring; one seed, one set of pages."""
    rng = np.random.default_rng(seed)
    demand, ages = rng.pareto(1.2, VIDEOS) + 0.1, rng.uniform(0, 60, VIDEOS)
    propensities = inclusion(demand, ages)
    # What is popular is wanted more, so plain means over what was shown flatter whoever shows it.
    wanted = 0.5 * np.log(demand) + rng.normal(size=(VIEWERS, VIDEOS)) - 1.0
    chances = 1.0 / (1.0 + np.exp(-wanted))
    ranked = np.argsort(-(wanted + mistakes * rng.normal(size=wanted.shape)), axis=1)[:, :LENGTH]
    truth_of = np.take_along_axis(chances, ranked, axis=1).sum(axis=1) * EXAMINED.mean()
    viewers = np.sort(rng.integers(VIEWERS, size=PAGES))
    shown = draw_pages(rng, propensities, PAGES)
    labels = (rng.random(shown.shape) < EXAMINED * chances[viewers[:, None], shown]).astype(float)
    # The model of the watches is wrong: too low, and it does not know what is popular.
    expected = 0.3 * EXAMINED.mean() * np.ones_like(chances)
    page, place = np.nonzero((shown[:, :, None] == ranked[viewers][:, None, :]).any(axis=2))
    videos = shown[page, place]
    _, numbered = np.unique(viewers, return_inverse=True)
    return LoggedMatches(
        viewers=numbered,
        lengths=np.full(PAGES, float(LENGTH)),
        predicted=np.take_along_axis(expected, ranked, axis=1).sum(axis=1)[viewers],
        watched=labels.sum(axis=1),
        page=page,
        propensities=propensities[videos],
        labels=labels[page, place],
        expected=expected[viewers[page], videos],
    ), float(truth_of[viewers].mean())


def test_the_intervals_hold_the_truth_as_often_as_they_say_and_the_plain_mean_does_not():
    held = dict.fromkeys(("doubly_robust", "self_normalised", "inverse_propensity", "naive"), 0)
    errors = dict.fromkeys(held, 0.0)
    for seed in range(100):
        matches, truth = world(seed)
        found = estimate_off_policy(matches, seed=seed)
        for name in held:
            estimate = getattr(found, name)
            held[name] += estimate.low <= truth <= estimate.high
            errors[name] += (estimate.value - truth) / 100
    assert held["doubly_robust"] >= 90
    assert held["self_normalised"] >= 90
    assert held["inverse_propensity"] >= 90
    assert held["naive"] <= 60
    assert abs(errors["doubly_robust"]) < 0.25 * abs(errors["naive"])


def test_the_interval_of_a_difference_holds_the_truth_and_is_narrower_than_two_intervals():
    held, narrower = 0, 0
    for seed in range(50):
        (ours, better), (theirs, worse) = world(seed, mistakes=0.5), world(seed, mistakes=1.0)
        found = difference(ours, theirs, seed=seed)
        held += found.low <= better - worse <= found.high
        if seed % 10 == 0:
            apart = [estimate_off_policy(each, seed=seed).doubly_robust for each in (ours, theirs)]
            narrower += found.high - found.low < sum(each.high - each.low for each in apart)
    assert held >= 44
    assert narrower == 5


def test_a_ranker_differs_from_itself_by_nothing(matches):
    found = difference(matches, matches, seed=3)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def matches():
    return world(1)[0]


def test_the_same_pages_give_the_same_estimate(matches):
    assert estimate_off_policy(matches, seed=3) == estimate_off_policy(matches, seed=3)


def test_without_a_model_of_the_watches_doubly_robust_is_inverse_propensity(matches):
    blind = replace(matches, predicted=0.0 * matches.predicted, expected=0.0 * matches.expected)
    found = estimate_off_policy(blind, seed=3)
    assert found.doubly_robust.value == pytest.approx(found.inverse_propensity.value)


def test_a_perfect_ranker_on_its_own_pages_is_worth_what_they_brought():
    rng = np.random.default_rng(2)
    labels = (rng.random(500) < 0.3).astype(float)
    own = LoggedMatches(
        viewers=np.arange(50),
        lengths=np.full(50, 10.0),
        predicted=np.zeros(50),
        watched=labels.reshape(50, 10).sum(axis=1),
        page=np.repeat(np.arange(50), 10),
        propensities=np.ones(500),
        labels=labels,
        expected=np.zeros(500),
    )
    found = estimate_off_policy(own, seed=1)
    for estimate in (found.inverse_propensity, found.self_normalised, found.doubly_robust, found.naive):
        assert estimate == found.logged
    assert found.effective == pytest.approx(500)


def test_weights_are_cut_where_it_is_said_and_the_share_is_told(matches):
    found = estimate_off_policy(matches, seed=3, clip=5.0)
    assert 0.0 < found.clipped_share < 1.0
    assert found.inverse_propensity.value < estimate_off_policy(matches, seed=3).inverse_propensity.value


@pytest.mark.parametrize("propensity", [0.0, float("nan"), 1.5])
def test_a_place_without_a_probability_is_refused(matches, propensity):
    broken = matches.propensities.copy()
    broken[7] = propensity
    with pytest.raises(TrainingError, match=r"1 of .* matched places have no probability"):
        estimate_off_policy(replace(matches, propensities=broken), seed=1)


@pytest.mark.parametrize("kept", [0, 20])
def test_too_few_matches_are_refused_with_their_worth(matches, kept):
    few = {name: getattr(matches, name)[:kept] for name in ("page", "propensities", "labels", "expected")}
    with pytest.raises(TrainingError, match=f"{kept} logged places match .* 30 are needed"):
        estimate_off_policy(replace(matches, **few), seed=1)
