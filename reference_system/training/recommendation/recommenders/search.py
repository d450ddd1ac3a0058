"""Choosing a recommender: every kind with its settings, judged on interactions that are hidden inside the history.

In: interactions to learn from. Out: the settings of each kind, and the one kind that is worth most.
Invariant: what will judge the chosen one is never looked at here.

Two ways of hiding ask two questions. Each user's newest items ask what the user will take next, which favours who
listens to the newest of what they took; items drawn at random ask what else they like. Who is asked both is judged by
the mean, so that neither is bought with the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from reference_system.arrays import Ints
from reference_system.errors import TrainingError
from reference_system.progress import Progress
from reference_system.training.recommendation.recommenders import recommenders
from reference_system.training.recommendation.recommenders.hiding import (
    Exam,
    hide,
    newest_of_each,
    random_share,
)
from reference_system.training.recommendation.recommenders.interactions import History, Interactions
from reference_system.training.recommendation.recommenders.linear_autoencoder import (
    MOST_ITEMS,
    Autoencoder,
    autoencoder,
    by_users,
    with_recency,
)
from reference_system.training.recommendation.recommenders.ranked_lists import judged_lists
from reference_system.training.recommendation.recommenders.recommenders import Blend, Recommender

Hiding = Literal["newest", "random"]
RecommenderSetting = Mapping[str, float]
KINDS = ("popularity", "recent_popularity", "item_knn", "factors", "autoencoder", "blend")
# Small: the best settings for much less data are not the best for all of it.
_HIDDEN_SHARE = 0.1
# Fewer users than this say nothing about a setting.
_FEWEST, _MOST = 5, 2_000
_SHARES, _SHRINKS, _RANKS = (0.5, 0.2, 0.1, 0.03), (10.0, 50.0), (16, 32, 64)
_REGULARISATIONS, _FEW_REGULARISATIONS = (50.0, 100.0, 200.0, 400.0, 1_000.0), (200.0, 600.0)
_LIKINGS, _RECENCIES, _BLEND_WEIGHT = (1.25,), (1.0, 2.0, 4.0, 8.0), 0.3
_MOST_PARTS = 3
# Solving a matrix of this side takes seconds: then few settings are tried.
_LARGE_SIDE = 3_000
# A part has to be worth this much more to be blended in: smaller gains were chance, and gone on the test.
_LEAST_GAIN = 1.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The settings of each kind, its ndcg@k by what was hidden, and the best kind; `users` were asked."""

    settings: Mapping[str, RecommenderSetting]
    worth: Mapping[str, Mapping[str, float]]
    best: str
    users: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A part of the history with the items that were hidden from it, and the users who are asked."""

    exam: Exam
    users: Ints

    @property
    def history(self) -> History:
        """What is learned from."""
        return self.exam.history


def choose(rows: Interactions, hidings: Sequence[Hiding], *, k: int, seed: int, progress: Progress) -> Choice:
    """Find the settings of every kind and the best kind."""
    progress(0.0, "hiding interactions to choose by")
    exams = {hiding: exam for hiding in hidings if len((exam := _exam(rows, hiding, seed)).users) >= _FEWEST}
    users = max((len(exam.users) for exam in exams.values()), default=0)
    if not exams:
        note = f"fewer than {_FEWEST} users took several items: nothing can be chosen by, so popularity stays"
        return Choice(settings={"popularity": {}}, worth={}, best="popularity", users=0, note=note)
    search = _Search(list(exams.values()), k=k, progress=progress)
    search.run()
    found = search.found()
    return Choice(
        settings={kind: tried.setting for kind, tried in found.items()},
        worth={kind: dict(zip(exams, tried.worth, strict=True)) for kind, tried in found.items()},
        best=search.best(),
        users=users,
        note=f"chosen by ndcg@{k} where {' and '.join(exams)} items of {users:,} users were hidden",
    )


def fit_recommender(kind: str, history: History, choice: Choice) -> Recommender:
    """A recommender with the chosen settings, from this history.

    Raises:
        TrainingError: if there is no such kind, or it could not be tried.
    """
    if kind not in KINDS:
        raise TrainingError(f"there is no recommender {kind!r} (there are {', '.join(KINDS)})")
    if kind not in choice.settings:
        raise TrainingError(f"{kind} cannot be fitted: {choice.note}")
    setting = choice.settings[kind]
    if kind == "blend":
        return Blend(
            name=kind,
            parts=tuple((fit_recommender(part, history, choice), weight) for part, weight in setting.items()),
        )
    return _fitted(kind, history, setting)


def limits_of(history: History) -> list[str]:
    """What the size of the history keeps the recommenders from doing, in words."""
    if by_users(history) or history.n_items <= MOST_ITEMS:
        return []
    return [f"the autoencoder knows the {MOST_ITEMS:,} most taken of {history.n_items:,} items; the rest stand below"]


def _fitted(kind: str, history: History, setting: RecommenderSetting) -> Recommender:
    if kind == "popularity":
        return recommenders.popularity(history)
    if kind == "recent_popularity":
        return recommenders.recent_popularity(history, share=setting["share"])
    if kind == "item_knn":
        return recommenders.item_knn(history, shrink=setting["shrink"])
    if kind == "factors":
        return recommenders.factors(history, rank=int(setting["rank"]))
    return with_recency(_learned(history, setting), history, setting["recency"])


def _learned(history: History, setting: RecommenderSetting) -> Autoencoder:
    return autoencoder(history, regularisation=setting["regularisation"], liking=setting["liking"])


def _exam(rows: Interactions, hiding: Hiding, seed: int) -> _Asked:
    hidden = newest_of_each if hiding == "newest" else random_share
    exam = hide(rows, hidden(rows, _HIDDEN_SHARE, seed=seed))
    users = exam.asked
    if len(users) > _MOST:
        users = np.sort(np.random.default_rng(seed).choice(users, _MOST, replace=False))
    return _Asked(exam=exam, users=users)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    """A setting and its ndcg in each exam."""

    setting: RecommenderSetting
    worth: tuple[float, ...]

    @property
    def mean(self) -> float:
        """What settings are compared by."""
        return sum(self.worth) / len(self.worth)


class _Search:
    """Tries settings kind by kind."""

    def __init__(self, exams: Sequence[_Asked], *, k: int, progress: Progress) -> None:
        self._exams = exams
        self._k = k
        self._progress = progress
        self._tried: dict[str, list[_Tried]] = {}

    def run(self) -> None:
        """Every kind in turn."""
        self._try("popularity", {})
        for share in _SHARES:
            self._try("recent_popularity", {"share": share})
        for shrink in _SHRINKS:
            self._try("item_knn", {"shrink": shrink})
        for rank in _RANKS:
            self._try("factors", {"rank": float(rank)})
        self._autoencoder()
        self._blends()

    def best_of(self, kind: str) -> _Tried:
        """The best setting of a kind."""
        return max(self._tried[kind], key=lambda tried: tried.mean)

    def best(self) -> str:
        """The best kind."""
        return max(self._tried, key=lambda kind: self.best_of(kind).mean)

    def found(self) -> dict[str, _Tried]:
        """The best of each kind."""
        return {kind: self.best_of(kind) for kind in self._tried}

    @property
    def _places(self) -> range:
        return range(len(self._exams))

    def _try(self, kind: str, setting: RecommenderSetting) -> None:
        self._progress(0.8 * KINDS.index(kind) / len(KINDS), f"trying {kind} {dict(setting) or ''}")
        self._keep(kind, setting, [_fitted(kind, exam.history, setting) for exam in self._exams])

    def _autoencoder(self) -> None:
        """One setting after the other: λ, ratings, recency, and λ once more."""
        large = any(not by_users(exam.history) and exam.history.n_items > _LARGE_SIDE for exam in self._exams)
        regularisations = _FEW_REGULARISATIONS if large else _REGULARISATIONS
        for value in regularisations:
            self._try("autoencoder", {"regularisation": value, "liking": 0.0, "recency": 0.0})
        for liking in () if large else _LIKINGS:
            self._try("autoencoder", {**self.best_of("autoencoder").setting, "liking": liking})
        self._recencies()
        chosen = self.best_of("autoencoder").setting
        for value in () if large or not chosen["recency"] else regularisations:
            if value != chosen["regularisation"]:
                self._try("autoencoder", {**chosen, "regularisation": value})

    def _recencies(self) -> None:
        """How much newer items count needs no fit: the same weights are asked."""
        setting = self.best_of("autoencoder").setting
        learned = [_learned(exam.history, setting) for exam in self._exams]
        for recency in _RECENCIES:
            asked = [
                with_recency(model, exam.history, recency) for model, exam in zip(learned, self._exams, strict=True)
            ]
            self._keep("autoencoder", {**setting, "recency": recency}, asked)

    def _blends(self) -> None:
        """Greedy: to the best kind, the part that gains most, as long as one gains."""
        fitted = {
            kind: [_fitted(kind, exam.history, found.setting) for exam in self._exams]
            for kind, found in self.found().items()
        }
        first = self.best()
        parts: dict[str, float] = {first: 1.0}
        reached = self.best_of(first)
        while len(parts) < _MOST_PARTS:
            self._progress(0.9, f"blending {', '.join(parts)}")
            tried = [self._mixed({**parts, kind: _BLEND_WEIGHT}, fitted) for kind in fitted if kind not in parts]
            found = max(tried, key=lambda each: each.mean)
            if found.mean <= _LEAST_GAIN * reached.mean:
                break
            parts, reached = dict(found.setting), found
        if len(parts) > 1:
            self._tried["blend"] = [reached]

    def _mixed(self, parts: Mapping[str, float], fitted: Mapping[str, Sequence[Recommender]]) -> _Tried:
        models = [
            Blend(name="blend", parts=tuple((fitted[kind][place], weight) for kind, weight in parts.items()))
            for place in self._places
        ]
        return _Tried(setting=dict(parts), worth=self._worth(models))

    def _keep(self, kind: str, setting: RecommenderSetting, models: Sequence[Recommender]) -> None:
        self._tried.setdefault(kind, []).append(_Tried(setting=dict(setting), worth=self._worth(models)))

    def _worth(self, models: Sequence[Recommender]) -> tuple[float, ...]:
        name = f"ndcg@{self._k}"
        return tuple(
            judged_lists(model, exam.exam, exam.users, k=self._k)[name]
            for model, exam in zip(models, self._exams, strict=True)
        )
