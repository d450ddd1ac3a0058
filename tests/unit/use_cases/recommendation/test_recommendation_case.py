"""Recommendation: the ranker's inputs, candidates, the page's rules and its metrics."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import numpy as np
import pytest

from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.use_cases.recommendation import features, model, policy
from reference_system.use_cases.recommendation.events import CATEGORIES

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


NO_FACTORS = np.zeros((5, 0), np.float32)
# Videos 0, 1 and 3 point one way, video 2 another; video 4 was watched by nobody.
VECTORS = np.array([[2, 0], [1, 0], [0, 1], [3, 1], [0, 0]], np.float32)


def test_candidates_say_where_they_come_from_and_the_first_source_wins(neighbours):
    chosen = model.generate_candidates([0], neighbours, NO_FACTORS, popular=[1, 2, 3], newest=[4])
    assert chosen == {1: "neighbours", 4: "newest", 2: "popular", 3: "popular"}


def test_factors_name_what_points_where_the_last_watches_do(neighbours):
    chosen = model.generate_candidates([0], neighbours, VECTORS, popular=[2], newest=[4], count=10)
    assert chosen == {1: "neighbours", 3: "factors", 0: "factors", 4: "newest", 2: "popular"}


def test_the_newest_watch_counts_most_when_a_viewer_is_folded_in():
    assert model.folded_in([2, 0], VECTORS).tolist() == [1.0, 1.0]
    assert model.folded_in([0, 2], VECTORS).tolist() == [2.0, 0.5]


@pytest.mark.parametrize(("recent", "vectors"), [([], VECTORS), ([99], VECTORS), ([4], VECTORS), ([0], NO_FACTORS)])
def test_without_a_watch_that_the_factors_know_there_is_nobody_to_fold_in(recent, vectors):
    assert model.folded_in(recent, vectors) is None


def test_the_nearest_are_those_that_sorting_everything_finds():
    rng = np.random.default_rng(3)
    vectors, wanted = rng.normal(size=(500, 8)).astype(np.float32), rng.normal(size=8).astype(np.float32)
    by_sorting = sorted(range(500), key=lambda item: -float(vectors[item] @ wanted))
    assert model.nearest(vectors, wanted, count=20).tolist() == by_sorting[:20]
    assert len(model.nearest(vectors[:3], wanted, count=20)) == 3


def test_of_videos_that_are_equally_near_the_first_are_taken():
    vectors = np.repeat(np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), 300, axis=0)
    assert model.nearest(vectors, np.array([1.0, 0.5], np.float32), count=5).tolist() == [300, 301, 302, 303, 304]


def test_a_viewer_without_history_gets_newest_and_popular_videos(neighbours):
    assert set(model.generate_candidates([], neighbours, VECTORS, popular=[1, 2], newest=[4])) == {1, 2, 4}


def test_a_video_without_history_is_found_as_the_newest(neighbours):
    chosen = model.generate_candidates([0], neighbours, VECTORS, popular=[0, 1, 2, 3], newest=[4], count=10)
    assert chosen[4] == "newest"


def test_a_watched_video_that_is_newer_than_the_item_table_is_passed_over(neighbours):
    assert model.generate_candidates([99], neighbours, VECTORS, popular=[1], newest=[]) == {1: "popular"}


def test_candidates_are_bounded(neighbours):
    assert len(model.generate_candidates([0], neighbours, VECTORS, popular=range(5), newest=[], count=3)) == 3


def test_a_catalogue_of_one_video_is_one_candidate_and_a_page_of_one():
    alone = model.item_neighbours(np.array([0]), np.array([0]), n_videos=1, n_viewers=1)
    chosen = model.generate_candidates([0], alone, np.ones((1, 1), np.float32), popular=[0], newest=[0])
    assert list(chosen) == [0]
    assert policy.compose_page([0], [0], {0}, k=10) == [0]
    assert policy.explore([0], [0], [0], {0}, k=10, draw=0.5) == ([0], [1.0])


def test_a_page_keeps_the_order_but_not_more_than_its_share_of_one_category():
    assert policy.compose_page([0, 1, 2, 3, 4], [0, 0, 0, 1, 2], set(), k=5) == [0, 1, 3, 4, 2]


def test_watched_videos_fill_a_page_only_when_nothing_else_is_left():
    assert policy.compose_page([0, 1, 2], [0, 1, 2], {0}, k=2) == [1, 2]
    assert policy.compose_page([0, 1, 2], [0, 1, 2], {0}, k=3) == [1, 2, 0]


RANKED = list(range(100))
CATEGORY_OF = [item % 8 for item in RANKED]


def explored(draw, *, k=10, ranked=RANKED, watched=frozenset()):
    page = policy.compose_page(ranked, CATEGORY_OF, watched, k=k)
    return page, *policy.explore(page, ranked, CATEGORY_OF, watched, k=k, draw=draw)


def test_only_the_last_place_is_left_to_chance_and_its_probability_is_that_of_the_draw():
    page, shown, propensities = explored(0.999)
    assert shown[:-1] == page[:-1]
    assert shown[-1] == RANKED[9 + policy.EXPLORED_POOL - 1]
    assert propensities == [1.0] * 9 + [1.0 / policy.EXPLORED_POOL]


def test_every_video_of_the_pool_is_drawn_as_often_as_its_propensity_says():
    shares = np.linspace(0.0, 1.0, 5_000, endpoint=False)
    drawn = [explored(share)[1][-1] for share in shares]
    videos, counts = np.unique(drawn, return_counts=True)
    assert videos.tolist() == RANKED[9 : 9 + policy.EXPLORED_POOL]
    np.testing.assert_allclose(counts / len(shares), explored(0.0)[2][-1], rtol=0.03)


def test_a_drawn_video_keeps_the_rules_of_the_page():
    for draw in np.linspace(0.0, 0.99, 40):
        _, shown, _ = explored(draw, watched=frozenset(range(9, 40)))
        assert shown[-1] not in range(9, 40)
        assert len(set(shown)) == 10
        assert max(np.bincount([CATEGORY_OF[item] for item in shown])) <= 10 * policy.MAX_CATEGORY_SHARE


def test_a_page_of_one_place_and_a_page_that_is_not_full_are_certain():
    assert explored(0.7, k=1)[1:] == ([0], [1.0])
    assert explored(0.7, ranked=[3, 4, 5])[1:] == ([3, 4, 5], [1.0] * 3)


def test_recall_and_ndcg_reward_relevant_videos_at_the_top():
    assert model.recall_at([3, 1, 2], {1, 9}, k=2) == 0.5
    assert model.ndcg_at([1, 2], {1}, k=2) == 1.0
    assert model.ndcg_at([2, 1], {1}, k=2) == pytest.approx(1 / math.log2(3))
