"""The recommender's metrics with weighted videos."""

from __future__ import annotations

import math

import pytest

from reference_system.use_cases.recommendation import model


def test_with_equal_weights_the_weighted_metrics_are_the_plain_ones():
    ranked, relevant = [5, 3, 9, 1], {3, 1, 7}
    for weighted, plain in ((model.weight_at, model.recall_at), (model.gain_at, model.ndcg_at)):
        reached, possible = weighted(ranked, dict.fromkeys(relevant, 2.5), k=3)
        assert reached / possible == pytest.approx(plain(ranked, relevant, k=3))


def test_a_rarely_shown_video_counts_by_its_weight():
    relevant = {1: 100.0, 2: 1.0}
    assert model.weight_at([1, 9], relevant, k=2) == (100.0, 101.0)
    assert model.weight_at([2, 9], relevant, k=2) == (1.0, 101.0)


def test_the_ideal_order_puts_the_heaviest_first():
    _, ideal = model.gain_at([], {1: 1.0, 2: 4.0}, k=10)
    assert ideal == pytest.approx(4.0 + 1.0 / math.log2(3))


def test_what_lies_beyond_k_does_not_count():
    assert model.gain_at([8, 9, 1], {1: 1.0}, k=2)[0] == 0.0
