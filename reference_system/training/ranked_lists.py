"""Ranked lists: the best items of each user, and what such lists are worth.

In: a recommender and the history. Out: lists; recall@k, ndcg@k, coverage and novelty.
Invariant: a list holds an item once, best first, and nothing that the user has seen unless it is asked for.

Recall@k is the share of a user's hidden items that are among the first k, ndcg@k weighs them by place; both are means
over users. Coverage is the share of the catalogue that is on any list. Novelty is the mean self-information of what is
on the lists, -log2 of the share of users who had taken it: popular lists have little.
Source: Vargas and Castells, Rank and relevance in novelty and diversity metrics for recommender systems, RecSys 2011.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from reference_system.training.interactions import History
from reference_system.training.labelled_rows import Ids
from reference_system.training.recommenders import Recommender, Scores, largest

NO_ITEM = -1
# Scores in memory at a time.
_MOST_SCORES = 8_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """Lists of some users: items (users, k), `NO_ITEM` where there are no more, and their scores, best first."""

    users: Ids
    items: Ids
    scores: Scores


def ranked_lists(
    model: Recommender, history: History, users: Ids, *, k: int, exclude_seen: bool = True
) -> Iterator[Lists]:
    """The lists of these users, some at a time."""
    step = max(1, _MOST_SCORES // max(history.n_items, 1))
    for start in range(0, len(users), step):
        some = users[start : start + step]
        scores = np.array(model.scores(some), np.float32)
        if exclude_seen:
            seen = history.seen[some]
            scores[np.repeat(np.arange(len(some)), np.diff(seen.indptr)), seen.indices] = -np.inf
        yield best_of(some, scores, k)


def best_of(users: Ids, scores: Scores, k: int) -> Lists:
    """The first k of each row of scores; what is minus infinity is left out."""
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


def judged(model: Recommender, history: History, wanted: csr_matrix, users: Ids, *, k: int) -> dict[str, float]:
    """What the lists of these users are worth; each has at least one wanted item."""
    recalls, gains = [], []
    shown = np.zeros(history.n_items, np.int64)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideals = np.cumsum(discounts)
    for lists in ranked_lists(model, history, users, k=k):
        of_users = wanted[lists.users]
        counts = np.diff(of_users.indptr)
        hits = np.take_along_axis(of_users.toarray(), np.maximum(lists.items, 0), axis=1) & (lists.items != NO_ITEM)
        recalls.append(hits.sum(axis=1) / counts)
        gains.append(hits @ discounts[: hits.shape[1]] / ideals[np.minimum(counts, k) - 1])
        shown += np.bincount(lists.items[lists.items != NO_ITEM], minlength=history.n_items)
    surprise = -np.log2(np.maximum(history.counts, 1.0) / history.n_users)
    return {
        f"recall@{k}": float(np.concatenate(recalls).mean()),
        f"ndcg@{k}": float(np.concatenate(gains).mean()),
        "coverage": float((shown > 0).mean()),
        "novelty": float(shown @ surprise) / max(int(shown.sum()), 1),
    }
