"""Recommenders: what a user's items say about all the others.

In: the history of all users. Out: a score for every item, for some users at a time.
Invariant: nothing but the history is used, and the same history gives the same scores.

The linear autoencoder has a file of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
from scipy.sparse.linalg import svds  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from reference_system.arrays import Floats, Floats32, Ints
from reference_system.training.recommendation.recommenders.interactions import History

_NEIGHBOURS = 200
BLOCK = 512
_LEAST_VALUE = 1e-6


class Recommender(Protocol):
    """Something that scores items; larger is better."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def parameters(self) -> Mapping[str, float]:
        """What it was made with."""
        ...

    def scores(self, users: Ints) -> Floats32:
        """Shape (users, items)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Popularity:
    """The same for everybody: how many users took the item; `counts` may be of the last part of the time alone."""

    name: str
    counts: Floats
    parameters: Mapping[str, float] = field(default_factory=dict)

    def scores(self, users: Ints) -> Floats32:
        """The counts, for each user."""
        return np.broadcast_to(self.counts.astype(np.float32), (len(users), len(self.counts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearItems:
    """A user's items times a sparse matrix between items: item-kNN."""

    name: str
    rows: csr_matrix
    weights: csr_matrix
    parameters: Mapping[str, float]

    def scores(self, users: Ints) -> Floats32:
        """The sum of what each of the user's items says."""
        found: Floats32 = (self.rows[users] @ self.weights).toarray()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """A user's items projected on what most users differ in: `items` has shape (items, rank)."""

    name: str
    rows: csr_matrix
    items: Floats32
    parameters: Mapping[str, float]

    def scores(self, users: Ints) -> Floats32:
        """Fold the users in from their items; no user has parameters of their own."""
        found: Floats32 = (self.rows[users] @ self.items) @ self.items.T
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """A weighted sum of scores, each scaled to mean 0 and deviation 1 for each user."""

    name: str
    parts: tuple[tuple[Recommender, float], ...]

    @property
    def parameters(self) -> Mapping[str, float]:
        """The weights, and what the parts were made with."""
        weights = {part.name: weight for part, weight in self.parts}
        inner = {f"{part.name}.{name}": value for part, _ in self.parts for name, value in part.parameters.items()}
        return weights | inner

    def scores(self, users: Ints) -> Floats32:
        """The sum."""
        (first, its_weight), *others = self.parts
        total = its_weight * scaled(first.scores(users))
        for part, weight in others:
            total += weight * scaled(part.scores(users))
        return total


def scaled(scores: Floats32) -> Floats32:
    """Each user's scores with mean 0 and deviation 1."""
    centred = scores - scores.mean(axis=1, keepdims=True)
    found: Floats32 = centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-9)
    return found


def popularity(history: History) -> Popularity:
    """How many users ever took each item."""
    return Popularity(name="popularity", counts=history.counts)


def recent_popularity(history: History, *, share: float) -> Popularity:
    """How many users took it lately: in the last `share` of all interactions. Ties go to what is popular at all."""
    since = np.quantile(history.times, 1.0 - share)
    recent = np.bincount(history.indices[history.times >= since], minlength=history.n_items)
    counts = recent + history.counts / (1.0 + history.counts.max(initial=0.0))
    return Popularity(name="recent_popularity", counts=counts, parameters={"share": share})


def item_knn(history: History, *, shrink: float) -> LinearItems:
    """Cosine similarity of the sets of users, shrunk where few users took both; the nearest of each item.

    Items that are as near as the first that is too many are left out as well: which of them is kept would be chance.

    Source: Sarwar et al., Item-based collaborative filtering recommendation algorithms, WWW 2001.
    """
    seen, size = history.seen, history.n_items
    norms = np.sqrt(history.counts).astype(np.float32)
    turned = seen.T.tocsr()
    kept = min(_NEIGHBOURS, size)
    data, indices = [], []
    for start in range(0, size, BLOCK):
        rows = slice(start, min(start + BLOCK, size))
        together = np.asarray((turned[rows] @ seen).todense(), np.float32)
        similar = together / (norms[rows, None] * norms[None, :] + shrink + 1e-9)
        similar[np.arange(len(similar)), np.arange(rows.start, rows.stop)] = 0.0
        near = np.argpartition(-similar, min(kept, size - 1), axis=1)
        values = np.take_along_axis(similar, near, axis=1)
        if kept < size:
            values[values <= values[:, kept, None]] = 0.0
        indices.append(near[:, :kept].ravel())
        data.append(values[:, :kept].ravel())
    pointers = np.arange(size + 1) * kept
    weights = csr_matrix((np.concatenate(data), np.concatenate(indices), pointers), shape=(size, size))
    weights.eliminate_zeros()
    return LinearItems(name="item_knn", rows=seen, weights=weights, parameters={"shrink": shrink})


def largest(scores: Floats32, count: int) -> Ints:
    """The columns of the `count` largest scores of each row, best first; of equal scores the first column.

    A partition by index would leave it to the processor's instructions which of the equal ones it keeps.
    """
    falling = -scores
    if count >= falling.shape[1]:
        return np.argsort(falling, axis=1, kind="stable")
    last = np.partition(falling, count - 1, axis=1)[:, count - 1, None]
    kept = falling <= last
    over = np.flatnonzero(np.count_nonzero(kept, axis=1) > count)
    if len(over):
        equal = falling[over] == last[over]
        places = count - np.count_nonzero(falling[over] < last[over], axis=1, keepdims=True)
        kept[over] &= ~equal | (np.cumsum(equal, axis=1, dtype=np.int32) <= places)
    some = np.nonzero(kept)[1].reshape(len(scores), count)
    order = np.argsort(np.take_along_axis(falling, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def factors(history: History, *, rank: int) -> Factors:
    """PureSVD: the first singular vectors of the users' matrix.

    Source: Cremonesi, Koren and Turrin, Performance of recommender algorithms on top-N recommendation tasks, RecSys
    2010.
    """
    items = item_factors(history.seen, rank=rank)
    return Factors(name="factors", rows=history.seen, items=items, parameters={"rank": float(items.shape[1])})


def item_factors(seen: csr_matrix, *, rank: int) -> Floats32:
    """The first right singular vectors, shape (items, rank); the rank is at most the smaller side of the matrix."""
    wanted = min(rank, *seen.shape)
    # One thread: beside busy services two of them take many times longer (see `sklearn_estimators.py`).
    with threadpool_limits(1):
        if wanted == min(seen.shape):
            return _all_factors(seen)
        # A start that is not drawn: the same matrix gives the same factors.
        _, values, found = svds(seen.astype(np.float64), k=wanted, v0=np.ones(min(seen.shape)))
        return _signed(values[::-1], found[::-1].T)


def _all_factors(seen: csr_matrix) -> Floats32:
    _, values, found = np.linalg.svd(seen.toarray().astype(np.float64), full_matrices=False)
    return _signed(values, found.T)


def _signed(values: Floats, vectors: Floats) -> Floats32:
    """Signs are free, and fixed here; what belongs to no singular value says nothing, and is 0."""
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None, :], axis=0)
    turned = vectors * np.where(largest < 0.0, -1.0, 1.0)
    found: Floats32 = np.where(values > _LEAST_VALUE * values.max(initial=0.0), turned, 0.0).astype(np.float32)
    return found
