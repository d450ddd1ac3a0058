"""The backtest of recommenders: hide some interactions, learn from the rest, see who recommends what was hidden.

In: interactions, a way to split them. Out: every kind of recommender with its metrics, which one would have been
chosen, and who was best.
Invariant: settings and choice come from the part that is learned from; the hidden part judges once.

`temporal` hides the newest interactions of all: users who appear only then have no history, and are answered by what
is popular lately; they are judged apart. `random` hides interactions one by one. An item counts as wanted if the user
took it in the hidden part and not before, whatever they thought of it. What was learned from is all that exists then:
an item that appears in the hidden part alone is on no list, and counts as missed.
"""

from __future__ import annotations

from time import perf_counter
from typing import Literal

import msgspec

from reference_system.arrays import Flags, Ints
from reference_system.errors import TrainingError
from reference_system.progress import Progress
from reference_system.training.recommendation.recommenders import recommenders
from reference_system.training.recommendation.recommenders.hiding import (
    Exam,
    hide,
    newest_share,
    random_share,
)
from reference_system.training.recommendation.recommenders.interactions import Interactions, history_of
from reference_system.training.recommendation.recommenders.ranked_lists import judged_lists
from reference_system.training.recommendation.recommenders.search import (
    KINDS,
    Choice,
    Hiding,
    choose,
    fit_recommender,
    limits_of,
)

Split = Literal["temporal", "random"]
BASELINE_RECOMMENDERS = ("popularity", "recent_popularity")
_FEW_USERS = 100
_HIDING: dict[Split, Hiding] = {"temporal": "newest", "random": "random"}
# What may leave somebody to judge where a split did not.
_OTHERS: tuple[tuple[Split, float], ...] = (("random", 0.2), ("temporal", 0.2), ("random", 0.5), ("temporal", 0.5))


class JudgedRecommender(msgspec.Struct, frozen=True, kw_only=True):
    """One kind; `validation` is the ndcg that chose its settings."""

    name: str
    metrics: dict[str, float]
    validation: float | None
    seconds: float
    parameters: dict[str, float]


class RecommendationBacktest(msgspec.Struct, frozen=True, kw_only=True):
    """What came out; `metrics_without_history` are those of `recent_popularity` for users unseen in training."""

    dataset: str
    split: Split
    test_share: float
    k: int
    seed: int
    train_interactions: int
    test_interactions: int
    users: int
    items: int
    users_judged: int
    users_without_history: int
    items_without_history: int
    models: tuple[JudgedRecommender, ...]
    metrics_without_history: dict[str, float]
    chosen: str
    winner: str
    notes: tuple[str, ...]


def backtest_recommenders(  # noqa: PLR0913 - what is split, how, and who is told
    rows: Interactions, *, dataset: str, split: Split, test_share: float, k: int, seed: int, progress: Progress
) -> RecommendationBacktest:
    """Split, choose, learn, evaluate.

    Raises:
        TrainingError: if one side of the split is empty, or nobody can be judged.
    """
    hidden = _hidden(rows, split, test_share, seed)
    exam = hide(rows, hidden)
    warm, cold = exam.asked, exam.asked_strangers
    if not len(warm):
        raise TrainingError(
            f"nobody can be judged: {len(exam.learned):,} interactions to learn from, {hidden.sum():,} hidden, 0 users"
            f" on both sides{_why_nobody(rows)}",
            next_command=_other_split(rows, dataset, seed),
        )
    choice = choose(
        exam.learned, [_HIDING[split]], k=k, seed=seed, progress=lambda share, text: progress(0.7 * share, text)
    )
    models = _judged(exam, warm, choice=choice, k=k, progress=progress)
    ndcg = f"ndcg@{k}"
    winner = max(models, key=lambda model: model.metrics[ndcg])
    progress(1.0, "done")
    return RecommendationBacktest(
        dataset=dataset,
        split=split,
        test_share=test_share,
        k=k,
        seed=seed,
        train_interactions=len(exam.learned),
        test_interactions=int(hidden.sum()),
        users=len(rows.user_ids),
        items=len(rows.item_ids),
        users_judged=len(warm),
        users_without_history=len(cold),
        items_without_history=exam.unknown_items,
        models=models,
        metrics_without_history=_cold(exam, cold, choice, k),
        chosen=choice.best,
        winner=winner.name,
        notes=(
            _verdict(models, winner, choice, ndcg),
            *_doubts(models, winner, k, users=len(warm)),
            *_out_of_reach(exam, warm),
            choice.note,
            *limits_of(exam.history),
        ),
    )


def _hidden(rows: Interactions, split: Split, test_share: float, seed: int) -> Flags:
    return newest_share(rows, test_share) if split == "temporal" else random_share(rows, test_share, seed=seed)


def _why_nobody(rows: Interactions) -> str:
    """What no split can change."""
    several = bool((history_of(rows).lengths > 1).any())
    return "" if several else "; no user took more than one item, and it takes users with several"


def _other_split(rows: Interactions, dataset: str, seed: int) -> str:
    """The command of a split with test users left, if one of a few has them; else what shows the dataset."""
    for split, share in _OTHERS:
        if len(hide(rows, _hidden(rows, split, share, seed)).asked):
            return f"workbook backtest recommendation --dataset {dataset} --split {split} --test-share {share}"
    return f"workbook data describe {dataset}"


def _judged(exam: Exam, users: Ints, *, choice: Choice, k: int, progress: Progress) -> tuple[JudgedRecommender, ...]:
    found = []
    kinds = [kind for kind in KINDS if kind in choice.settings]
    for place, kind in enumerate(kinds):
        progress(0.7 + 0.3 * place / len(kinds), f"judging {kind}")
        began = perf_counter()
        model = fit_recommender(kind, exam.history, choice)
        metrics = judged_lists(model, exam, users, k=k)
        found.append(
            JudgedRecommender(
                name=kind,
                metrics=metrics,
                validation=next(iter(choice.worth.get(kind, {}).values()), None),
                seconds=round(perf_counter() - began, 3),
                parameters=dict(model.parameters),
            )
        )
    return tuple(found)


def _cold(exam: Exam, users: Ints, choice: Choice, k: int) -> dict[str, float]:
    if not len(users):
        return {}
    share = choice.settings.get("recent_popularity", {}).get("share", 0.1)
    return judged_lists(recommenders.recent_popularity(exam.history, share=share), exam, users, k=k)


def _out_of_reach(exam: Exam, users: Ints) -> list[str]:
    """How much of what is wanted no list can hold."""
    beyond = int(exam.beyond[users].sum())
    if not beyond:
        return []
    share = beyond / (beyond + exam.wanted[users].nnz)
    found = f"{exam.unknown_items:,} items appear in the hidden part alone: no list can hold them, and they count as"
    return [f"{found} missed, {share:.1%} of what the judged users want"]


def _verdict(models: tuple[JudgedRecommender, ...], winner: JudgedRecommender, choice: Choice, ndcg: str) -> str:
    """Who won, in words; it says so when popularity did."""
    plain = max((m for m in models if m.name in BASELINE_RECOMMENDERS), key=lambda model: model.metrics[ndcg])
    chosen = next(model for model in models if model.name == choice.best)
    if winner.name in BASELINE_RECOMMENDERS:
        return f"{winner.name} wins: {ndcg} {winner.metrics[ndcg]:.4f}; no model here is worth its cost"
    text = f"{winner.name} wins: {ndcg} {winner.metrics[ndcg]:.4f}, {plain.name} {plain.metrics[ndcg]:.4f}"
    if chosen.name == winner.name:
        return text
    worse = ", less than popularity" if chosen.metrics[ndcg] < plain.metrics[ndcg] else ""
    return f"{text}; {chosen.name} was chosen before the test and has {chosen.metrics[ndcg]:.4f}{worse}"


def _doubts(models: tuple[JudgedRecommender, ...], winner: JudgedRecommender, k: int, *, users: int) -> list[str]:
    """What keeps the verdict from being the whole truth."""
    recall = f"recall@{k}"
    best = max(models, key=lambda model: model.metrics[recall])
    doubts = []
    if best.metrics[recall] > winner.metrics[recall]:
        doubts.append(f"by {recall} {best.name} wins: {best.metrics[recall]:.4f} and {winner.metrics[recall]:.4f}")
    if users < _FEW_USERS:
        doubts.append(f"only {users} users judge: differences of a few hundredths are chance")
    return doubts
