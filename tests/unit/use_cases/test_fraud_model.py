"""The fraud model's budgets: checked cards and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_system.use_cases.fraud import model, policy


@pytest.mark.parametrize(("cards", "expected"), [(5_000, 100), (2_500, 100), (1_000, 40), (10, 1), (0, 1)])
def test_a_small_world_checks_fewer_cards(cards, expected):
    assert model.checked_cards(cards) == expected


def test_the_review_threshold_keeps_the_alert_budget():
    scores = np.random.default_rng(1).random(50_000)
    thresholds = policy.set_thresholds(scores, np.zeros(50_000), days=7.0)
    assert (scores >= thresholds.review).sum() == policy.ALERTS_PER_DAY * 7


def test_in_a_small_world_alerts_are_a_share_of_the_payments():
    scores = np.random.default_rng(1).random(1_000)
    thresholds = policy.set_thresholds(scores, np.zeros(1_000), days=7.0)
    assert (scores >= thresholds.review).mean() == policy.MAX_ALERT_SHARE


def test_the_block_threshold_refuses_at_most_its_share_of_genuine_payments():
    rng = np.random.default_rng(2)
    labels = (rng.random(20_000) < 0.01).astype(float)
    scores = np.clip(rng.normal(0.1 + 0.6 * labels, 0.1), 0, 1)
    thresholds = policy.set_thresholds(scores, labels, days=7.0)
    assert (scores[labels == 0] >= thresholds.block).mean() <= policy.BLOCKED_GENUINE_SHARE
    assert (scores[labels == 1] >= thresholds.block).mean() > 0.9


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=300))
def test_whatever_the_scores_review_comes_before_block_and_both_budgets_hold(rows):
    scores = np.array([score for score, _ in rows])
    labels = np.array([float(fraud) for _, fraud in rows])
    if labels.all():
        labels[0] = 0.0
    thresholds = policy.set_thresholds(scores, labels, days=1.0)
    assert thresholds.review <= thresholds.block
    assert (scores[labels == 0] >= thresholds.block).mean() <= policy.BLOCKED_GENUINE_SHARE
    assert (scores >= thresholds.review).sum() <= max(policy.ALERTS_PER_DAY, (scores >= thresholds.block).sum())
