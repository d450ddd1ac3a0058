"""Ranked lists, the search for settings, and the backtest, on small planted tastes."""

from __future__ import annotations

import math
from zlib import crc32

import msgspec
import numpy as np
import pytest
from test_recommenders import rows_of

from reference_system.errors import TrainingError
from reference_system.training.recommendation.recommenders import search as recommender_search
from reference_system.training.recommendation.recommenders.backtest import (
    JudgedRecommender,
    _doubts,
    backtest_recommenders,
)
from reference_system.training.recommendation.recommenders.hiding import hide, newest_share
from reference_system.training.recommendation.recommenders.interactions import (
    Interactions,
    history_of,
    numbered_pairs,
)
from reference_system.training.recommendation.recommenders.ranked_lists import (
    NO_ITEM,
    all_lists,
    best_of,
    judged_lists,
)
from reference_system.training.recommendation.recommenders.recommenders import Popularity, popularity
from reference_system.training.recommendation.recommenders.search import choose, fit_recommender


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
    tied = np.tile(np.array([1.0, 2.0, 1.0, 1.0], np.float32), 50)[None, :]
    assert best_of(np.arange(1), tied, 53).items[0, 50:].tolist() == [0, 2, 3]


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
    model = Popularity(name="fixed", counts=np.array([4.0, 3.0, 2.0]))
    found = judged_lists(model, hide(rows, hidden), np.array([0, 1]), k=2)
    # Both lists are 1, 2: user 0 wanted 1 and 3, which was in nobody's history, user 1 wanted 2.
    assert found["recall@2"] == pytest.approx((1 / 2 + 1) / 2)
    ideal = 1 + 1 / math.log2(3)
    assert found["ndcg@2"] == pytest.approx((1 / ideal + 1 / math.log2(3)) / 2)
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["novelty"] == pytest.approx(2.0)


def test_items_with_equal_scores_are_judged_in_every_order():
    rows = rows_of([(0, 0), (1, 1), (1, 2), (1, 3), (1, 4), (0, 2), (0, 3)])
    exam = hide(rows, np.arange(7) >= 5)
    # Of user 0 four items are left, two with equal scores on the places 2 and 3, one of them and the last one wanted.
    scores = np.zeros(5)
    for item, score in ((1, 9.0), (2, 5.0), (4, 5.0 * (1 + 1e-7)), (3, 1.0)):
        scores[exam.learned.item_ids.tolist().index(f"i{item}")] = score
    found = judged_lists(Popularity(name="fixed", counts=scores), exam, np.array([exam.asked[0]]), k=2)
    assert found["recall@2"] == pytest.approx(0.5 / 2)
    assert found["ndcg@2"] == pytest.approx(0.5 / math.log2(3) / (1 + 1 / math.log2(3)))


def grown(seed):
    """Users who take old items by their taste, on few days; new items and new users appear at the end."""
    rng = np.random.default_rng(seed)
    names, days = [], []
    for user in range(40):
        for _ in range(8):
            day = int(rng.integers(0, 12))
            item = 20 * (user % 2) + int(rng.integers(0, 20)) if day < 9 else int(rng.integers(0, 60))
            names.append((f"u{user + 100 * (day > 10)}", f"i{item}"))
            days.append(day)
    return names, np.array(days), rng.integers(1, 6, len(days)) / 5


def read(names, days, values, order=None, rename=str):
    """The rows as a dataset has them: in any order, with any names."""
    order = np.arange(len(names)) if order is None else order
    parts = [[rename(names[place][side]) for place in order] for side in (0, 1)]
    ids = [np.unique(part) for part in parts]
    users, items = (np.searchsorted(known, part) for known, part in zip(ids, parts, strict=True))
    rows = Interactions(
        user_ids=ids[0], item_ids=ids[1], users=users, items=items, times=days[order], values=values[order]
    )
    return numbered_pairs(rows)[0]


def without_times(report):
    models = tuple(msgspec.structs.replace(model, seconds=0.0) for model in report.models)
    return msgspec.structs.replace(report, models=models)


@pytest.mark.parametrize("split", ["temporal", "random"])
@pytest.mark.parametrize("seed", range(3))
def test_how_users_and_items_are_called_and_in_which_order_rows_come_changes_no_figure(split, seed):
    names, days, values = grown(seed)
    order = np.random.default_rng(seed).permutation(len(names))
    reports = [
        backtest_recommenders(rows, dataset="d", split=split, test_share=0.25, k=5, seed=3, progress=quiet)
        for rows in (
            read(names, days, values),
            read(names, days, values, order),
            read(names, days, values, order, rename=lambda name: f"{crc32(name.encode()):09}{name}"),
        )
    ]
    assert without_times(reports[1]) == without_times(reports[0])
    assert without_times(reports[2]) == without_times(reports[0])


def test_what_appears_after_the_split_is_on_no_list_and_counts_as_missed():
    # Everybody takes the old items; at the end all take one of two new ones.
    pairs = [(user, item) for user in range(20) for item in range(6) if (user + item) % 5]
    late = [(user, 6 + user % 2) for user in range(20)]
    rows = rows_of([*pairs, *late])
    report = backtest_recommenders(rows, dataset="d", split="temporal", test_share=0.172, k=8, seed=3, progress=quiet)
    assert report.items_without_history == 2
    assert {model.metrics["recall@8"] for model in report.models} == {0.0}
    assert "2 items appear in the hidden part alone" in " ".join(report.notes)
    assert "100.0% of what the judged users want" in " ".join(report.notes)


@pytest.mark.parametrize("split", ["newest", "random"])
def test_what_is_hidden_changes_no_list(split):
    names, days, values = grown(5)
    rows = read(names, days, values)
    hidden = newest_share(rows, 0.25)
    # The same past with another future: other users, other items, twice as much of it.
    future = rows_of([(0, 3), (7, 9), (8, 2)] * 60, times=rows.times[hidden].min() + np.arange(180))
    other = Interactions(
        user_ids=np.concatenate([rows.user_ids, future.user_ids]),
        item_ids=np.concatenate([rows.item_ids, future.item_ids]),
        users=np.concatenate([rows.users[~hidden], future.users + len(rows.user_ids)]),
        items=np.concatenate([rows.items[~hidden], future.items + len(rows.item_ids)]),
        times=np.concatenate([rows.times[~hidden], future.times]),
        values=np.concatenate([rows.values[~hidden], future.values]),
    )
    exams = [hide(rows, hidden), hide(numbered_pairs(other)[0], np.arange(len(other)) >= (~hidden).sum())]
    choices = [choose(exam.learned, [split], k=5, seed=3, progress=quiet) for exam in exams]
    assert choices[0] == choices[1]
    for kind in choices[0].settings:
        lists = [
            all_lists(
                fit_recommender(kind, exam.history, choices[0]), exam.history, k=50, exclude_seen=True, tell=quiet
            )
            for exam in exams
        ]
        np.testing.assert_array_equal(lists[0].items, lists[1].items)
        np.testing.assert_array_equal(lists[0].scores, lists[1].scores)


def test_models_beat_popularity_where_tastes_differ():
    report = backtest_recommenders(tastes(), dataset="d", split="random", test_share=0.2, k=5, seed=3, progress=quiet)
    ndcg = {model.name: model.metrics["ndcg@5"] for model in report.models}
    assert min(ndcg["autoencoder"], ndcg["item_knn"], ndcg["factors"]) > 1.3 * ndcg["popularity"]
    assert report.chosen not in ("popularity", "recent_popularity")
    assert "wins" in report.notes[0]
    assert report.users_judged + report.users_without_history <= report.users
    assert backtest_recommenders(
        tastes(), dataset="d", split="random", test_share=0.2, k=5, seed=3, progress=quiet
    ).winner == (report.winner)


def test_it_is_said_when_popularity_wins():
    report = backtest_recommenders(
        fashion(), dataset="d", split="temporal", test_share=0.05, k=2, seed=3, progress=quiet
    )
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
    report = backtest_recommenders(rows, dataset="d", split="temporal", test_share=0.05, k=40, seed=3, progress=quiet)
    assert report.users_without_history == 2
    assert report.metrics_without_history["recall@40"] == 1.0


def test_a_split_that_leaves_nobody_to_judge_is_refused_with_its_numbers():
    rows = rows_of([(user, user) for user in range(10)])
    with pytest.raises(TrainingError, match="nobody can be judged: 8 interactions to learn from, 2 hidden, 0 users"):
        backtest_recommenders(rows, dataset="d", split="temporal", test_share=0.2, k=5, seed=3, progress=quiet)


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 0), (1, 0), (2, 0)], [(0, 0), (0, 1)]])
def test_a_dataset_too_small_to_choose_by_keeps_popularity(pairs):
    rows = rows_of(pairs)
    choice = choose(rows, ["newest", "random"], k=10, seed=3, progress=quiet)
    assert choice.best == "popularity"
    assert "popularity stays" in choice.note
    history = history_of(rows)
    lists = all_lists(fit_recommender("popularity", history, choice), history, k=10, exclude_seen=True, tell=quiet)
    assert len(lists.users) == len(rows.user_ids)
    with pytest.raises(TrainingError, match="popularity stays"):
        fit_recommender("item_knn", history, choice)


@pytest.mark.parametrize(
    ("pairs", "split", "advice"),
    [
        # Everybody took one item: no split helps.
        ([(0, 0), (1, 0), (2, 0)], "random", "workbook data describe d"),
        ([(0, 0), (1, 0), (2, 0)], "temporal", "workbook data describe d"),
        # Each came once and took several: a cut in time leaves nobody on both sides.
        ([(user, item) for user in range(5) for item in range(4)], "temporal", "--split random --test-share 0.2"),
    ],
)
def test_the_advice_is_a_split_that_leaves_somebody_to_judge(pairs, split, advice):
    rows = rows_of(pairs, n_items=4)
    with pytest.raises(TrainingError, match="nobody can be judged") as refused:
        backtest_recommenders(rows, dataset="d", split=split, test_share=0.2, k=5, seed=3, progress=quiet)
    assert refused.value.next_command.endswith(advice)
    assert ("no user took more than one item" in str(refused.value)) == ("describe" in advice)


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
        scores = fit_recommender(kind, history, choice).scores(np.arange(3))
        assert scores.shape == (3, 1)
        assert np.isfinite(scores).all()


def test_a_name_that_no_recommender_has_is_refused_with_those_that_exist():
    choice = recommender_search.Choice(settings={}, worth={}, best="popularity", users=0, note="")
    with pytest.raises(TrainingError, match=r"no recommender 'magic' \(there are popularity, .* blend\)"):
        fit_recommender("magic", history_of(rows_of([(0, 0)])), choice)
