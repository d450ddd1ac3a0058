"""Arms that chance did not make are recognised."""

from __future__ import annotations

import numpy as np
import pytest

from reference_system.experiments.sample_ratio import chi_square_p, running_p_values, sample_ratio


def drawn(share, count, seed=1):
    return np.random.default_rng(seed).random(count) < share


def test_fifty_two_of_a_hundred_are_no_coin_after_twenty_thousand_viewers():
    found = sample_ratio(drawn(0.52, 20_000), 0.5)

    assert found.broken
    assert found.found_share == pytest.approx(0.52, abs=0.01)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_a_coin_as_it_was_asked_for_is_one(share):
    assert not sample_ratio(drawn(share, 20_000), share).broken


def test_one_arm_alone_is_recognised_after_some_dozens():
    assert sample_ratio(np.zeros(200, bool), 0.5).broken
    assert not sample_ratio(np.zeros(3, bool), 0.5).broken


def test_the_p_value_only_falls_and_is_the_same_in_one_go_and_in_many():
    treated = drawn(0.52, 500)
    running = running_p_values(treated, 0.5)

    assert (np.diff(running) <= 0).all()
    assert running[99] == pytest.approx(running_p_values(treated[:100], 0.5)[-1])


def test_the_chi_square_is_the_one_of_the_tables():
    # 60 of 100 at an even share: chi-square 4.
    assert chi_square_p(np.array([60]), np.array([100]), 0.5)[0] == pytest.approx(0.0455, abs=1e-4)
