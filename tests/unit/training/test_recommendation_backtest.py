"""Ranked lists, the search for settings, and the backtest, on small planted tastes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_recommenders import rows_of

from reference_system.errors import TrainingError
from reference_system.training import recommender_search
from reference_system.training.interactions import hidden_items, history_of
from reference_system.training.ranked_lists import NO_ITEM, all_lists, best_of, judged
from reference_system.training.recommendation_backtest import JudgedRecommender, _doubts, backtest
from reference_system.training.recommender_search import choose, fit
from reference_system.training.recommenders import Popularity, popularity


def quiet(_share, _text=""):
    """Nobody watches."""


def tastes(*, users=60, seed=1):
    """Users of two tastes: each takes ten of the twenty items of its own half, in random order."""
    rng = np.random.default_rng(seed)
    pairs = [
        (user, 20 * (user % 2) + item) for user in range(users) for item in rng.choice(20, 10, replace=False).tolist()
    ]
    return rows_of([pairs[place] for place in rng.permutation(len(pairs))], n_items=40)


def fashion():
    """Everybody takes nearly everything, soon: tastes do not differ, so nothing can be learned about them."""
    rng = np.random.default_rng(2)
    # A day has two new items; who did not take one on its day takes it the day after.
    pairs = []
    late: list[tuple[int, int]] = []
    for day in range(20):
        today, tomorrow = late, []
        for item in (2 * day, 2 * day + 1):
            takes = rng.random(40) < 0.6
            today = [*today, *((user, item) for user in np.flatnonzero(takes).tolist())]
            tomorrow += [(user, item) for user in np.flatnonzero(~takes).tolist()]
        pairs += today
        late = tomorrow
    return rows_of(pairs, n_items=40)


def test_of_equal_scores_the_first_item_wins_and_minus_infinity_is_left_out():
    scores = np.array([[1.0, 3.0, 3.0, 2.0], [-np.inf, 5.0, -np.inf, -np.inf]], np.float32)
    found = best_of(np.arange(2), scores, 3)
    assert found.items.tolist() == [[1, 2, 3], [1, NO_ITEM, NO_ITEM]]


def test_the_first_items_win_where_more_have_the_last_score_than_there_are_places():
    scores = np.repeat(np.array([[0.0, 1.0]], np.float32), 500, axis=1)
    assert best_of(np.arange(1), scores, 5).items.tolist() == [[500, 501, 502, 503, 504]]
    assert best_of(np.arange(1), -scores, 5).items.tolist() == [[0, 1, 2, 3, 4]]


def test_a_list_holds_nothing_that_was_seen_unless_it_is_asked_for():
    history = history_of(rows_of([(0, 0), (0, 1), (1, 0), (1, 2)]))
    popular = popularity(history)
    without = all_lists(popular, history, k=2, exclude_seen=True, tell=quiet)
    assert without.items.tolist() == [[2, NO_ITEM], [1, NO_ITEM]]
    with_seen = all_lists(popular, history, k=5, exclude_seen=False, tell=quiet)
    assert with_seen.items.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert (np.diff(with_seen.scores) <= 0).all()


def test_the_metrics_are_those_of_their_definitions():
    rows = rows_of([(0, 0), (1, 0), (2, 1), (3, 2), (0, 3), (0, 1), (1, 2)])
    hidden = np.array([False] * 4 + [True] * 3)
    history = history_of(rows.take(~hidden))
    wanted = hidden_items(rows.take(hidden), history)
    model = Popularity(name="fixed", counts=np.array([4.0, 3.0, 2.0, 1.0]))
    found = judged(model, history, wanted, np.array([0, 1]), k=2)
    # Both lists are 1, 2: user 0 wanted 1 and 3, user 1 wanted 2.
    assert found["recall@2"] == pytest.approx((1 / 2 + 1) / 2)
    ideal = 1 + 1 / math.log2(3)
    assert found["ndcg@2"] == pytest.approx((1 / ideal + 1 / math.log2(3)) / 2)
    assert found["coverage"] == 0.5
    assert found["novelty"] == pytest.approx(2.0)


def test_models_beat_popularity_where_tastes_differ():
    report = backtest(tastes(), dataset="d", split="random", test_share=0.2, k=5, seed=3, progress=quiet)
    ndcg = {model.name: model.metrics["ndcg@5"] for model in report.models}
    assert min(ndcg["autoencoder"], ndcg["item_knn"], ndcg["factors"]) > 1.3 * ndcg["popularity"]
    assert report.chosen not in ("popularity", "recent_popularity")
    assert "wins" in report.notes[0]
    assert report.users_judged + report.users_without_history <= report.users
    assert backtest(tastes(), dataset="d", split="random", test_share=0.2, k=5, seed=3, progress=quiet).winner == (
        report.winner
    )


def test_it_is_said_when_popularity_wins():
    report = backtest(fashion(), dataset="d", split="temporal", test_share=0.05, k=2, seed=3, progress=quiet)
    assert report.winner == "popularity"
    assert "popularity wins: ndcg@2" in report.notes[0]
    assert "no model here is worth its cost" in report.notes[0]


def test_it_is_said_when_recall_disagrees_and_when_few_users_judge():
    one, other = (
        JudgedRecommender(
            name=name, metrics={"ndcg@5": ndcg, "recall@5": recall}, validation=None, seconds=0.0, parameters={}
        )
        for name, ndcg, recall in (("popularity", 0.2, 0.4), ("autoencoder", 0.3, 0.1))
    )
    doubts = _doubts((one, other), other, 5, users=23)
    assert doubts[0] == "by recall@5 popularity wins: 0.4000 and 0.1000"
    assert "only 23 users judge" in doubts[1]
    assert _doubts((one, other), one, 5, users=500) == []


def test_what_judges_has_no_part_in_the_choice():
    rows = tastes()
    hidden = np.zeros(len(rows), np.bool_)
    hidden[-100:] = True
    others = np.where(hidden, 39 - rows.items, rows.items)
    changed = rows_of(list(zip(rows.users.tolist(), others.tolist(), strict=True)))
    choices = [choose(each.take(~hidden), ["newest"], k=5, seed=3, progress=quiet) for each in (rows, changed)]
    assert choices[0] == choices[1]


def test_users_who_appear_only_later_are_answered_by_what_is_popular_lately():
    old = tastes()
    newcomers = [(user, item) for user in (60, 61) for item in (3, 25)]
    rows = rows_of([*zip(old.users.tolist(), old.items.tolist(), strict=True), *newcomers])
    report = backtest(rows, dataset="d", split="temporal", test_share=0.05, k=40, seed=3, progress=quiet)
    assert report.users_without_history == 2
    assert report.metrics_without_history["recall@40"] == 1.0


def test_a_split_that_leaves_nobody_to_judge_is_refused_with_its_numbers():
    rows = rows_of([(user, user) for user in range(10)])
    with pytest.raises(TrainingError, match="nobody can be judged: 8 interactions to learn from, 2 hidden, 0 users"):
        backtest(rows, dataset="d", split="temporal", test_share=0.2, k=5, seed=3, progress=quiet)


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 0), (1, 0), (2, 0)], [(0, 0), (0, 1)]])
def test_a_dataset_too_small_to_choose_by_keeps_popularity(pairs):
    rows = rows_of(pairs)
    choice = choose(rows, ["newest", "random"], k=10, seed=3, progress=quiet)
    assert choice.best == "popularity"
    assert "popularity stays" in choice.note
    history = history_of(rows)
    lists = all_lists(fit("popularity", history, choice), history, k=10, exclude_seen=True, tell=quiet)
    assert len(lists.users) == len(rows.user_ids)
    with pytest.raises(TrainingError, match="popularity stays"):
        fit("item_knn", history, choice)


def test_every_kind_of_recommender_survives_one_item_and_few_users():
    history = history_of(rows_of([(0, 0), (1, 0), (2, 0)]))
    settings = {
        "popularity": {},
        "recent_popularity": {"share": 0.1},
        "item_knn": {"shrink": 10.0},
        "factors": {"rank": 16.0},
        "autoencoder": {"regularisation": 100.0, "liking": 0.0, "recency": 1.0},
        "blend": {"autoencoder": 1.0, "factors": 0.3},
    }
    choice = recommender_search.Choice(settings=settings, worth={}, best="blend", users=0, note="")
    for kind in recommender_search.KINDS:
        scores = fit(kind, history, choice).scores(np.arange(3))
        assert scores.shape == (3, 1)
        assert np.isfinite(scores).all()


def test_a_name_that_no_recommender_has_is_refused_with_those_that_exist():
    choice = recommender_search.Choice(settings={}, worth={}, best="popularity", users=0, note="")
    with pytest.raises(TrainingError, match=r"no recommender 'magic' \(there are popularity, .* blend\)"):
        fit("magic", history_of(rows_of([(0, 0)])), choice)
