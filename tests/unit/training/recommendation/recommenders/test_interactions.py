"""Interactions: reading them, hiding some, and each user's history."""

from __future__ import annotations

import numpy as np
import pytest
from small_lake import put, watch
from test_recommenders import rows_of

from reference_system.errors import TrainingError
from reference_system.training.recommendation.recommenders.hiding import (
    hide,
    newest_of_each,
    newest_share,
    random_share,
)
from reference_system.training.recommendation.recommenders.interactions import (
    history_of,
    numbered_pairs,
    read_interactions,
)


def test_an_item_that_was_taken_twice_stands_once_with_its_last_moment():
    history = history_of(rows_of([(0, 1), (0, 0), (0, 1), (1, 0)], times=[1, 2, 3, 4], values=[0.2, 0.4, 1.0, 0.5]))
    assert history.indices.tolist() == [0, 1, 0]
    assert history.times.tolist() == [2, 3, 4]
    assert history.values.tolist() == [0.4, 1.0, 0.5]
    assert history.places.tolist() == [1, 0, 0]
    assert history.counts.tolist() == [2.0, 1.0]


def test_a_split_in_time_hides_the_newest_and_keeps_a_moment_together():
    rows = rows_of([(0, item) for item in range(10)], times=[0, 1, 2, 3, 4, 5, 6, 7, 7, 7])
    assert newest_share(rows, 0.2).tolist() == [False] * 7 + [True] * 3
    assert newest_share(rows, 0.4).tolist() == [False] * 6 + [True] * 4


def test_a_random_split_is_that_of_its_seed():
    rows = rows_of([(0, item) for item in range(500)])
    hidden = random_share(rows, 0.2, seed=3)
    assert hidden.tolist() == random_share(rows, 0.2, seed=3).tolist()
    assert 60 < hidden.sum() < 140


def test_hiding_the_newest_of_each_leaves_everybody_something():
    rows = rows_of([(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5), (2, 6), (2, 7)])
    hidden = newest_of_each(rows, 0.3, seed=1)
    assert rows.users[hidden].tolist() == [1, 2, 2]
    assert rows.items[hidden].tolist() == [1, 6, 7]


def test_what_a_user_took_before_is_not_wanted_again():
    rows = rows_of([(0, 0), (0, 1), (1, 1), (0, 0), (0, 2), (1, 1)])
    hidden = np.array([False, False, False, True, True, True])
    exam = hide(rows, hidden)
    assert exam.wanted.nnz == 0
    # Item 2 appears in the hidden part alone: wanted, and out of reach.
    assert (exam.beyond.tolist(), exam.unknown_items, exam.asked.tolist()) == ([1, 0], 1, [0])


def test_what_is_shown_does_not_know_that_hidden_users_and_items_exist():
    rows = rows_of([(0, 0), (0, 1), (1, 0), (2, 1), (2, 3), (1, 1), (1, 2)])
    hidden = np.array([False] * 3 + [True] * 4)
    exam = hide(rows, hidden)
    assert (exam.learned.user_ids.tolist(), exam.learned.item_ids.tolist()) == (["u0", "u1"], ["i0", "i1"])
    assert (exam.history.n_users, exam.history.n_items, exam.strangers) == (2, 2, 1)
    assert (exam.asked.tolist(), exam.asked_strangers.tolist()) == ([1], [2])
    assert exam.wanted.toarray().tolist() == [[False, False], [False, True], [False, True]]
    assert (exam.beyond.tolist(), exam.unknown_items) == ([0, 1, 1], 2)


def test_items_are_numbered_by_who_took_them_and_when():
    rows = rows_of([(0, 2), (1, 2), (0, 1), (1, 0), (2, 3)], times=[5, 6, 3, 4, 4])
    found, users, items = numbered_pairs(rows)
    # Two users took item 2; 1 was taken first; 0 by a user with more items than the one who took 3.
    assert found.item_ids[0] == "i2"
    assert found.item_ids[1] == "i1"
    assert (found.item_ids[items].tolist(), found.user_ids[users].tolist()) == (
        rows.item_ids.tolist(),
        rows.user_ids.tolist(),
    )
    assert found.times.tolist() == [3, 4, 4, 5, 6]


def test_items_of_one_moment_share_the_middle_of_their_places():
    history = history_of(rows_of([(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)], times=[1, 7, 7, 9, 2]))
    assert history.places.tolist() == [3.0, 1.5, 1.5, 0.0, 0.0]


def test_live_interactions_are_videos_of_which_half_was_watched(tmp_path):
    put(tmp_path, "watches", watch(1, 2, 7), watch(2, 3, 8, completion=0.4), watch(3, 1, 9, viewer="v0"))
    rows = read_interactions(tmp_path, live=True)
    assert rows.user_ids[rows.users].tolist() == ["v0", "v1"]
    assert len(rows.item_ids) == 2
    assert (np.diff(rows.times) > 0).all()


@pytest.mark.parametrize(("live", "reason"), [(True, "no video was watched yet"), (False, "holds no ratings")])
def test_without_interactions_there_is_a_reason(tmp_path, live, reason):
    with pytest.raises(TrainingError, match=reason):
        read_interactions(tmp_path, live=live)
