"""The linear autoencoder: weights between items, with a zero diagonal, that give each user's items from the others.

In: the history of all users. Out: a recommender.
Invariant: the two ways to it give the same scores: over items, and, where users are fewer, over users (push-through
identity), which needs no matrix between items.

Beyond `MOST_ITEMS` items and `MOST_USERS` users it learns from the most taken items alone; the rest follow by
popularity.
Source: Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from reference_system.arrays import Floats, Floats32, Ints
from reference_system.training.recommendation.recommenders.interactions import History
from reference_system.training.recommendation.recommenders.recommenders import BLOCK

# float32 matrices of this side: 256 MB for items, 144 MB for users, and a copy while they are solved.
MOST_ITEMS, MOST_USERS = 8_000, 6_000
_MOST_DENSE = 120_000_000
# About so many of a user's items are recent.
_RECENT_PLACES = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderByItems:
    """The weights themselves, between the items of `known`."""

    name: str
    rows: csr_matrix
    known: Ints
    weights: Floats32
    popularity: Floats32
    parameters: Mapping[str, float]

    def scores(self, users: Ints) -> Floats32:
        """Scores of the known items; the others stand below all of them, by popularity."""
        rows = self.rows[users]
        found = np.asarray(rows[:, self.known] @ self.weights, np.float32)
        if len(self.known) == len(self.popularity):
            return found
        lowest = found.min(axis=1, keepdims=True) - 2.0
        scores: Floats32 = lowest + self.popularity / (1.0 + self.popularity.max())
        scores[:, self.known] = found
        return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderByUsers:
    """The same scores without a matrix between items: `solved` is (X Xᵀ + λ)⁻¹ X, `diagonal` that of (Xᵀ X + λ)⁻¹."""

    name: str
    rows: csr_matrix
    learned: csr_matrix
    solved: Floats32
    diagonal: Floats32
    parameters: Mapping[str, float]

    def scores(self, users: Ints) -> Floats32:
        """Z - Z P / diag P, where P = (I - Xᵀ solved) / λ."""
        rows = self.rows[users]
        dense = rows.toarray()
        projected = (dense - (rows @ self.learned.T).toarray() @ self.solved) / self.parameters["regularisation"]
        found: Floats32 = dense - projected / self.diagonal
        return found


Autoencoder = AutoencoderByItems | AutoencoderByUsers


def liking_weights(history: History, liking: float) -> Floats:
    """1 for an item that was liked as much as the usual one, more for a better one."""
    weights: Floats = np.maximum(1.0 + liking * (history.values - np.median(history.values)), 0.1)
    return weights


def recency_weights(history: History, recency: float) -> Floats:
    """What an item of a user's own list counts: the newest 1 + recency times as much as an old one; 1 on the average.

    The old ones keep what they count: a list that is forgotten as it grows finds less of what else the user likes.
    """
    weights = 1.0 + recency * np.exp(-history.places / _RECENT_PLACES)
    rows = np.repeat(np.arange(history.n_users), history.lengths)
    mean = np.bincount(rows, weights, minlength=history.n_users) / np.maximum(history.lengths, 1)
    found: Floats = weights / mean[rows]
    return found


def with_recency(model: Autoencoder, history: History, recency: float) -> Autoencoder:
    """The same weights, asked with lists in which newer items count more; nothing is learned again."""
    weights = liking_weights(history, model.parameters["liking"]) * recency_weights(history, recency)
    return replace(model, rows=history.matrix(weights), parameters={**model.parameters, "recency": recency})


def by_users(history: History) -> bool:
    """Whether the way over users is the shorter one."""
    fewer = history.n_users <= min(history.n_items, MOST_USERS)
    return fewer and history.n_users * history.n_items <= _MOST_DENSE


def autoencoder(history: History, *, regularisation: float, liking: float = 0.0) -> Autoencoder:
    """The linear autoencoder, over the smaller side.

    Args:
        history: what is learned from.
        regularisation: λ.
        liking: how much a better rating counts, 0 for not at all.
    """
    learned = history.matrix(liking_weights(history, liking))
    parameters = {"regularisation": regularisation, "liking": liking}
    if by_users(history):
        kernel = np.asarray((learned @ learned.T).todense(), np.float32)
        dense = learned.toarray()
        solved = _solved(kernel, dense, regularisation)
        diagonal = ((1.0 - np.einsum("ui,ui->i", dense, solved)) / regularisation).astype(np.float32)
        return AutoencoderByUsers(
            name="autoencoder",
            rows=learned,
            learned=learned,
            solved=solved,
            diagonal=diagonal,
            parameters=parameters,
        )
    known = np.sort(np.argsort(-history.counts, kind="stable")[:MOST_ITEMS])
    some = learned[:, known]
    inverse = _solved(_gram(some), np.eye(len(known), dtype=np.float32), regularisation)
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0.0)
    return AutoencoderByItems(
        name="autoencoder",
        rows=learned,
        known=known,
        weights=inverse,
        popularity=history.counts.astype(np.float32),
        parameters=parameters,
    )


def _solved(kernel: Floats32, right: Floats32, regularisation: float) -> Floats32:
    """(kernel + λ)⁻¹ right, by Cholesky; both may be overwritten."""
    kernel[np.diag_indices_from(kernel)] += np.float32(regularisation)
    found: Floats32 = cho_solve(cho_factor(kernel, overwrite_a=True), right, overwrite_b=False)
    return found


def _gram(rows: csr_matrix) -> Floats32:
    """Xᵀ X, dense, block by block: the sparse product would need more memory than its result."""
    turned = rows.T.tocsr()
    found = np.empty((rows.shape[1], rows.shape[1]), np.float32)
    for start in range(0, len(found), BLOCK):
        block = slice(start, start + BLOCK)
        found[block] = (turned[block] @ rows).toarray()
    return found
