"""The fraud model's budgets: checked cards and thresholds."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_system.use_cases.fraud import model, policy


@pytest.mark.parametrize(("cards", "expected"), [(5_000, 100), (2_500, 100), (1_000, 40), (10, 1), (0, 1)])
def test_a_small_world_checks_fewer_cards(cards, expected):
    assert model.checked_cards(cards) == expected


def week(count=3_000, seed=2):
    """Scores that separate frauds well, and amounts."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.02).astype(float)
    scores = np.clip(rng.normal(0.1 + 0.5 * labels, 0.12), 0, 1)
    return scores, labels, rng.lognormal(3.5, 1.0, count)


def test_the_staff_gets_no_more_reviews_than_it_can_handle():
    scores, labels, amounts = week(60_000)
    thresholds = policy.set_thresholds(scores, labels, 1_000.0 * amounts, days=2.0)
    reviewed = (scores >= thresholds.review) & (scores < thresholds.block)
    # A review fewer than the budget where the next payment is genuine, and its review worth nothing.
    assert 0.95 * policy.ALERTS_PER_DAY * 2 < reviewed.sum() <= policy.ALERTS_PER_DAY * 2


def test_in_a_small_world_reviews_are_a_share_of_the_payments():
    scores, labels, amounts = week(1_000)
    thresholds = policy.set_thresholds(scores, labels, 1_000.0 * amounts, days=7.0)
    reviewed = (scores >= thresholds.review) & (scores < thresholds.block)
    assert 0 < reviewed.mean() <= policy.MAX_ALERT_SHARE


def test_frauds_of_small_amounts_are_blocked_where_that_is_safe_and_never_reviewed():
    scores, labels, amounts = week()
    thresholds = policy.set_thresholds(scores, labels, 0.01 * amounts, days=7.0)
    assert thresholds.review == thresholds.block
    assert labels[scores >= thresholds.block].all()


def test_without_frauds_nobody_is_bothered():
    scores = np.linspace(0.0, 1.0, 500)
    thresholds = policy.set_thresholds(scores, np.zeros(500), np.full(500, 50.0), days=7.0)
    assert policy.decide(1.0, thresholds) == "approve"


def brute_force(scores, labels, amounts, days):
    """The least cost of all pairs of thresholds that keep the budgets."""
    alerts = int(min(policy.ALERTS_PER_DAY * days, policy.MAX_ALERT_SHARE * len(scores)))
    refused = int(policy.BLOCKED_GENUINE_SHARE * (labels == 0).sum())
    edges = [*np.unique(scores).tolist(), 2.0]
    costs = []
    for block in edges:
        for review in [edge for edge in edges if edge <= block]:
            reviewed = (scores >= review) & (scores < block)
            if reviewed.sum() <= alerts and ((scores >= block) & (labels == 0)).sum() <= refused:
                found = policy.Thresholds(review=review, block=block)
                costs.append(policy.expected_cost(scores, labels, amounts, found))
    return min(costs)


@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.booleans(), st.integers(1, 60)),
        min_size=1,
        max_size=120,
    ),
)
def test_no_other_thresholds_within_the_budgets_cost_less(rows):
    scores, labels, amounts = (np.array(column, float) for column in zip(*rows, strict=True))
    scores /= 12.0
    with pytest.MonkeyPatch.context() as patch:
        # With the real shares the budgets of so few payments are zero.
        patch.setattr(policy, "MAX_ALERT_SHARE", 0.2)
        patch.setattr(policy, "BLOCKED_GENUINE_SHARE", 0.05)
        thresholds = policy.set_thresholds(scores, labels, amounts, days=1.0)
        cost = policy.expected_cost(scores, labels, amounts, thresholds)
        assert thresholds.review <= thresholds.block
        assert cost == pytest.approx(brute_force(scores, labels, amounts, 1.0))


def in_every_order(scores, labels, k):
    """The mean over all orders of cards with equal scores, one payment each."""
    found = []
    for order in permutations(range(len(scores))):
        ranked = sorted(order, key=lambda card: -scores[card])[:k]
        found.append(sum(labels[card] for card in ranked) / k)
    return np.mean(found)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6), st.integers(1, 4))
def test_card_precision_takes_cards_with_equal_scores_in_every_order(cards, k):
    scores, labels = (np.array(column, float) for column in zip(*cards, strict=True))
    days = np.zeros(len(cards), np.int64)
    found = model.card_precision_at(scores, labels, np.arange(len(cards)), days, k=k)
    assert found == pytest.approx(in_every_order(scores, labels, k))


@given(st.integers(0, 1_000))
def test_how_cards_are_numbered_and_payments_ordered_makes_no_difference(seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 4, 60) / 4.0, (rng.random(60) < 0.3).astype(float)
    cards, days = rng.integers(0, 15, 60), rng.integers(0, 4, 60)
    order, names = rng.permutation(60), rng.permutation(15)
    for drop in (False, True):
        one = model.card_precision_at(scores, labels, cards, days, k=3, drop_detected=drop)
        other = model.card_precision_at(
            scores[order], labels[order], names[cards][order], days[order], k=3, drop_detected=drop
        )
        assert other == pytest.approx(one, abs=1e-12)


def test_card_precision_can_leave_out_cards_that_were_found_before():
    scores = np.array([0.9, 0.8, 0.9, 0.8])
    labels = np.array([1.0, 0.0, 1.0, 1.0])
    cards, days = np.array([1, 2, 1, 3]), np.array([0, 0, 1, 1])
    assert model.card_precision_at(scores, labels, cards, days, k=1) == 1.0
    assert model.card_precision_at(scores, labels, cards, days, k=1, drop_detected=True) == 1.0
    assert model.card_precision_at(scores, labels, cards, days, k=2) == (0.5 + 1.0) / 2
    assert model.card_precision_at(scores, labels, cards, days, k=2, drop_detected=True) == (0.5 + 0.5) / 2
