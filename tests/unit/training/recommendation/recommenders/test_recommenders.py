"""Recommenders: both ways to the autoencoder, factors, neighbours, popularity, blends."""

from __future__ import annotations

import numpy as np
import pytest

from reference_system.training.recommendation.recommenders import linear_autoencoder, recommenders
from reference_system.training.recommendation.recommenders.interactions import Interactions, history_of
from reference_system.training.recommendation.recommenders.linear_autoencoder import autoencoder, with_recency
from reference_system.training.recommendation.recommenders.recommenders import (
    Blend,
    factors,
    item_factors,
    item_knn,
    largest,
    popularity,
    recent_popularity,
)


def rows_of(pairs, *, times=None, values=None, n_items=None):
    """Interactions of (user, item) pairs, one a moment."""
    users, items = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    return Interactions(
        user_ids=np.array([f"u{number}" for number in range(users.max() + 1)]),
        item_ids=np.array([f"i{number}" for number in range(n_items or items.max() + 1)]),
        users=users,
        items=items,
        times=np.arange(len(users)) if times is None else np.array(times),
        values=np.full(len(users), 0.6) if values is None else np.array(values),
    )


@pytest.fixture
def history():
    rng = np.random.default_rng(4)
    taken = rng.random((30, 40)) < np.linspace(0.5, 0.05, 40)
    return history_of(rows_of(np.argwhere(taken), values=rng.random(taken.sum()), n_items=40))


USERS = np.arange(30)


def closed_form(matrix, regularisation):
    inverse = np.linalg.inv(matrix.T @ matrix + regularisation * np.eye(matrix.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return matrix @ weights


@pytest.mark.parametrize("most_users", [0, 1_000])
def test_the_autoencoder_over_users_and_over_items_is_the_published_closed_form(history, monkeypatch, most_users):
    monkeypatch.setattr(linear_autoencoder, "MOST_USERS", most_users)
    model = autoencoder(history, regularisation=5.0)
    assert type(model).__name__ == ("AutoencoderByUsers" if most_users else "AutoencoderByItems")
    expected = closed_form(history.seen.toarray().astype(np.float64), 5.0)
    np.testing.assert_allclose(model.scores(USERS), expected, atol=1e-4)


@pytest.mark.parametrize("most_users", [0, 1_000])
def test_newer_items_of_a_user_count_more_if_asked_for_and_both_ways_agree(history, monkeypatch, most_users):
    monkeypatch.setattr(linear_autoencoder, "MOST_USERS", most_users)
    model = with_recency(autoencoder(history, regularisation=5.0, liking=1.0), history, 2.0)
    learned = history.matrix(linear_autoencoder.liking_weights(history, 1.0)).toarray().astype(np.float64)
    inverse = np.linalg.inv(learned.T @ learned + 5.0 * np.eye(40))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    asked = linear_autoencoder.liking_weights(history, 1.0) * linear_autoencoder.recency_weights(history, 2.0)
    np.testing.assert_allclose(model.scores(USERS), history.matrix(asked).toarray() @ weights, atol=1e-4)


def test_recency_weighs_the_newest_of_a_list_most_and_one_on_the_average():
    history = history_of(rows_of([(0, 0), (0, 1), (0, 2), (1, 2)], times=[1, 2, 3, 4]))
    weights = linear_autoencoder.recency_weights(history, 3.0)
    assert weights[0] < weights[1] < weights[2]
    assert weights[:3].mean() == pytest.approx(1.0)
    assert weights[3] == 1.0


def test_beyond_its_limit_the_autoencoder_knows_the_most_taken_items_and_the_rest_follow_by_popularity(
    history, monkeypatch
):
    monkeypatch.setattr(linear_autoencoder, "MOST_USERS", 0)
    monkeypatch.setattr(linear_autoencoder, "MOST_ITEMS", 10)
    model = autoencoder(history, regularisation=5.0)
    scores = model.scores(USERS)
    known = np.isin(np.arange(40), model.known)
    assert (scores[:, known].min(axis=1) > scores[:, ~known].max(axis=1)).all()
    rest = np.flatnonzero(~known)
    by_popularity = rest[np.argsort(-history.counts[rest], kind="stable")]
    assert rest[np.argsort(-scores[0, rest], kind="stable")].tolist() == by_popularity.tolist()


def test_factors_are_the_first_singular_vectors(history):
    dense = history.seen.toarray().astype(np.float64)
    _, _, expected = np.linalg.svd(dense, full_matrices=False)
    projected = dense @ expected[:4].T @ expected[:4]
    np.testing.assert_allclose(factors(history, rank=4).scores(USERS), projected, atol=1e-4)


def test_the_same_matrix_gives_the_same_factors_and_unwatched_items_have_none():
    history = history_of(rows_of([(0, 0), (0, 1), (1, 0), (1, 1), (2, 3)], n_items=6))
    found = item_factors(history.seen, rank=64)
    np.testing.assert_array_equal(found, item_factors(history.seen, rank=64))
    assert found.shape == (6, 3)
    assert not found[[2, 4, 5]].any()
    assert np.isfinite(found).all()


def test_the_nearest_items_have_the_same_users():
    history = history_of(rows_of([(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (2, 3), (3, 0)]))
    scores = item_knn(history, shrink=0.0).scores(np.array([3]))
    assert scores[0].argmax() == 1
    assert not scores[0, [2, 3]].any()


@pytest.mark.parametrize("count", [1, 7, 200, 400])
def test_the_largest_are_those_that_sorting_everything_finds_and_of_equal_ones_the_first(count):
    scores = np.random.default_rng(4).integers(0, 6, (30, 300)).astype(np.float32)
    assert largest(scores, count).tolist() == np.argsort(-scores, axis=1, kind="stable")[:, :count].tolist()


def test_of_neighbours_that_are_equally_near_all_are_kept_or_none(monkeypatch):
    monkeypatch.setattr(recommenders, "_NEIGHBOURS", 2)
    # Item 0 shares two users with item 1, and one with each of 2, 3 and 4.
    pairs = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 2), (2, 3), (2, 4)]
    weights = item_knn(history_of(rows_of(pairs)), shrink=1.0).weights.toarray()
    assert np.flatnonzero(weights[0]).tolist() == [1]


def test_shrinking_trusts_pairs_that_many_users_took():
    pairs = [(user, item) for user in range(6) for item in (0, 1)] + [(6, 0), (6, 2), (7, 0)]
    by_shrink = [
        item_knn(history_of(rows_of(pairs)), shrink=shrink).scores(np.array([7]))[0] for shrink in (0.0, 50.0)
    ]
    assert by_shrink[0][1] / by_shrink[0][2] < by_shrink[1][1] / by_shrink[1][2]


def test_recent_popularity_counts_the_last_part_and_breaks_ties_by_all_of_it():
    rows = rows_of([(0, 0), (1, 0), (2, 1), (0, 2), (1, 3), (2, 4)], times=[0, 1, 2, 8, 9, 10])
    history = history_of(rows)
    assert popularity(history).scores(np.array([0]))[0].argmax() == 0
    recent = recent_popularity(history, share=0.4).scores(np.array([0]))[0]
    assert set(np.argsort(-recent, kind="stable")[:3].tolist()) == {2, 3, 4}
    assert recent[0] > recent[1]


def test_a_blend_weighs_scores_of_any_scale_alike(history):
    popular = popularity(history)
    blended = Blend(name="blend", parts=((popular, 1.0), (item_knn(history, shrink=0.0), 0.0)))
    order = np.argsort(-blended.scores(USERS), axis=1, kind="stable")
    np.testing.assert_array_equal(order, np.argsort(-popular.scores(USERS), axis=1, kind="stable"))
    assert blended.parameters["item_knn.shrink"] == 0.0
