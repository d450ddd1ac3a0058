"""Ranked lists: the best items of each user, and what such lists are worth.

In: a recommender and the history. Out: lists; recall@k, ndcg@k, coverage and novelty.
Invariant: a list holds an item once, best first, nothing that the history does not know, and nothing that the user has
seen unless it is asked for.

Recall@k is the share of a user's hidden items that are among the first k, ndcg@k weighs them by place; both are means
over users. A hidden item that the history does not know counts as missed. Items with equal scores are taken to stand
in every order: a metric is what a list is worth on the average, whatever its items are called. Coverage is the share
of the items of the history that is on any list. Novelty is the mean self-information of what is
on the lists, -log2 of the share of users who had taken it: popular lists have little.
Source: Vargas and Castells, Rank and relevance in novelty and diversity metrics for recommender systems, RecSys 2011.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import fsum

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from reference_system.arrays import Floats, Floats32, Ints
from reference_system.training.recommendation.recommenders.hiding import Exam
from reference_system.training.recommendation.recommenders.interactions import History
from reference_system.training.recommendation.recommenders.recommenders import Recommender, largest

NO_ITEM = -1
# Scores in memory at a time.
_MOST_SCORES = 8_000_000
# Of a user's largest score.
_ROUNDING = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """Lists of some users: items (users, k), `NO_ITEM` where there are no more, and their scores, best first."""

    users: Ints
    items: Ints
    scores: Floats32


def ranked_lists(
    model: Recommender, history: History, users: Ints, *, k: int, exclude_seen: bool = True
) -> Iterator[Lists]:
    """The lists of these users, some at a time."""
    for some, scores in _scored(model, history, users, exclude_seen=exclude_seen):
        yield best_of(some, scores, k)


def _scored(
    model: Recommender, history: History, users: Ints, *, exclude_seen: bool
) -> Iterator[tuple[Ints, Floats32]]:
    """The scores of all items for these users, some at a time; minus infinity where an item cannot be on a list."""
    step = max(1, _MOST_SCORES // max(history.n_items, 1))
    for start in range(0, len(users), step):
        some = users[start : start + step]
        scores = np.array(model.scores(some), np.float32)
        if exclude_seen:
            seen = history.seen[some]
            scores[np.repeat(np.arange(len(some)), np.diff(seen.indptr)), seen.indices] = -np.inf
        yield some, scores


def best_of(users: Ints, scores: Floats32, k: int) -> Lists:
    """The first k of each row of scores, of equal ones the first items; what is minus infinity is left out."""
    items = largest(scores, k)
    best = np.take_along_axis(scores, items, axis=1)
    return Lists(users=users, items=np.where(np.isfinite(best), items, NO_ITEM), scores=best)


def all_lists(
    model: Recommender, history: History, *, k: int, exclude_seen: bool, tell: Callable[[float], None]
) -> Lists:
    """The lists of every user; `tell` is told the share of users that is done."""
    parts = []
    for part in ranked_lists(model, history, np.arange(history.n_users), k=k, exclude_seen=exclude_seen):
        parts.append(part)
        tell((int(part.users[-1]) + 1) / history.n_users)
    return Lists(
        users=np.concatenate([part.users for part in parts]),
        items=np.concatenate([part.items for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def judged_lists(model: Recommender, exam: Exam, users: Ints, *, k: int) -> dict[str, float]:
    """What the lists of these users are worth; each wants at least one item."""
    history = exam.history.with_strangers(exam.strangers)
    recalls, gains = [], []
    shown = np.zeros(history.n_items, np.int64)
    for some, scores in _scored(model, history, users, exclude_seen=True):
        found, gained = _expected(scores, exam.wanted[some], k)
        wanted = np.diff(exam.wanted[some].indptr) + exam.beyond[some]
        recalls.append(found / wanted)
        gains.append(gained / _discounts(k)[np.minimum(wanted, k)])
        items = best_of(some, scores, k).items
        shown += np.bincount(items[items != NO_ITEM], minlength=history.n_items)
    surprise = -np.log2(history.counts / np.count_nonzero(history.lengths))
    # Added up exactly, so that the order of the users makes no difference to the last digit.
    return {
        f"recall@{k}": fsum(np.concatenate(recalls)) / len(users),
        f"ndcg@{k}": fsum(np.concatenate(gains)) / len(users),
        "coverage": float((shown > 0).mean()),
        "novelty": fsum(shown * surprise) / max(int(shown.sum()), 1),
    }


def _expected(scores: Floats32, wanted: csr_matrix, k: int) -> tuple[Floats, Floats]:
    """How many wanted items of each row are among the first k, and their discounted gain.

    Both are means over all orders of items with equal scores.
    """
    rows = np.repeat(np.arange(len(scores)), np.diff(wanted.indptr))
    own = scores[rows, wanted.indices]
    ordered = np.sort(scores, axis=1)
    # What differs by less is the same number, added up in another order.
    close = _ROUNDING * np.abs(np.where(np.isfinite(scores), scores, 0.0)).max(axis=1)[rows]
    better, tied = np.empty(len(own), np.int64), np.empty(len(own), np.int64)
    for row in range(len(scores)):
        of = slice(*wanted.indptr[row : row + 2])
        better[of] = scores.shape[1] - np.searchsorted(ordered[row], own[of] + close[of], side="right")
        tied[of] = scores.shape[1] - np.searchsorted(ordered[row], own[of] - close[of], side="left") - better[of]
    discounts = _discounts(k)
    first, last = np.minimum(better, k), np.minimum(better + tied, k)
    found = np.bincount(rows, (last - first) / tied, minlength=len(scores))
    gained = np.bincount(rows, (discounts[last] - discounts[first]) / tied, minlength=len(scores))
    return found.astype(np.float64), gained.astype(np.float64)


def _discounts(k: int) -> Floats:
    """What the first n places of a list are worth together, for n from 0 to k."""
    return np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
