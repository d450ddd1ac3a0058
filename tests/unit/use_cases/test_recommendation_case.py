"""Recommendation: the ranker's inputs, candidates, the page's rules and its metrics."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from reference_system.use_cases.recommendation import features, model, policy
from reference_system.use_cases.recommendation.events import CATEGORIES
from reference_system.windows import MICROS_PER_DAY, micros

SATURDAY_EVENING = micros(datetime(2025, 1, 11, 20, 30, tzinfo=UTC))


def ranker_row(**changes):
    viewer = np.arange(len(features.VIEWER_ACTIVITY.features), dtype=float)[None, :]
    arguments = {
        "viewer": viewer,
        "videos": np.zeros((1, len(features.VIDEO_POPULARITY.features))),
        "categories": np.array([CATEGORIES.index("kids")]),
        "published": np.array([SATURDAY_EVENING - 3 * MICROS_PER_DAY]),
        "durations": np.array([600.0]),
        "as_of": np.array([SATURDAY_EVENING]),
        "positions": np.array([4.0]),
    } | changes
    (row,) = features.ranker_inputs(**arguments)
    return dict(zip(features.INPUTS, row, strict=True))


def test_the_rankers_row_has_one_value_for_each_input():
    row = ranker_row()
    assert row["video_age_days"] == 3.0
    assert row["video_duration_minutes"] == 10.0
    assert (row["is_weekend"], row["hour"], row["position"]) == (1.0, 20.0, 4.0)


def test_the_category_share_is_the_viewers_share_of_the_videos_category():
    expected = features.VIEWER_ACTIVITY.features.index("viewer_share_kids_30d")
    assert ranker_row()["viewer_category_share_30d"] == expected


def test_a_video_is_never_younger_than_its_publication():
    assert ranker_row(published=np.array([SATURDAY_EVENING + 1]))["video_age_days"] == 0.0


@pytest.fixture
def neighbours():
    # Viewers 0 and 1 watched videos 0 and 1; viewer 2 watched videos 2 and 3.
    return model.item_neighbours(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 2, 3]), n_videos=5, n_viewers=3)


def test_videos_with_the_same_viewers_are_the_nearest(neighbours):
    assert neighbours.items[0][0] == 1
    assert neighbours.similarities[0][0] == pytest.approx(1.0)


def test_a_video_that_nobody_watched_has_no_neighbours(neighbours):
    assert (neighbours.items[4] == -1).all()


def test_candidates_say_where_they_come_from_and_the_first_source_wins(neighbours):
    chosen = model.generate_candidates([0], neighbours, popular=[1, 2, 3], newest=[4])
    assert chosen == {1: "neighbours", 4: "newest", 2: "popular", 3: "popular"}


def test_a_viewer_without_history_gets_newest_and_popular_videos(neighbours):
    assert set(model.generate_candidates([], neighbours, popular=[1, 2], newest=[4])) == {1, 2, 4}


def test_a_watched_video_that_is_newer_than_the_item_table_is_passed_over(neighbours):
    assert model.generate_candidates([99], neighbours, popular=[1], newest=[]) == {1: "popular"}


def test_candidates_are_bounded(neighbours):
    assert len(model.generate_candidates([0], neighbours, popular=range(5), newest=[], count=3)) == 3


def test_a_page_keeps_the_order_but_not_more_than_its_share_of_one_category():
    assert policy.compose_page([0, 1, 2, 3, 4], [0, 0, 0, 1, 2], set(), k=5) == [0, 1, 3, 4, 2]


def test_watched_videos_fill_a_page_only_when_nothing_else_is_left():
    assert policy.compose_page([0, 1, 2], [0, 1, 2], {0}, k=2) == [1, 2]
    assert policy.compose_page([0, 1, 2], [0, 1, 2], {0}, k=3) == [1, 2, 0]


def test_recall_and_ndcg_reward_relevant_videos_at_the_top():
    assert model.recall_at([3, 1, 2], {1, 9}, k=2) == 0.5
    assert model.ndcg_at([1, 2], {1}, k=2) == 1.0
    assert model.ndcg_at([2, 1], {1}, k=2) == pytest.approx(1 / math.log2(3))
