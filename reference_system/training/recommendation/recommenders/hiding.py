"""Hiding: some interactions are kept back, to be guessed from the others.

In: interactions, and which of them are hidden. Out: what is learned from, and what is to be guessed.
Invariant: a split puts every interaction on one side. What is hidden in time is never older than what is shown, and
what is shown knows nothing of what is hidden, not even that a user or an item exists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from reference_system.arrays import Flags, Ints
from reference_system.training.recommendation.recommenders.interactions import (
    History,
    Interactions,
    history_of,
    numbered_pairs,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exam:
    """What is shown of some interactions, and what is to be guessed of those that are hidden.

    `wanted` (users, items; booleans) has the items of the history that a user took in the hidden part alone, `beyond`
    (users,) how many items of which the history knows nothing. Behind the users of the history there are `strangers`,
    who appear in the hidden part alone. `unknown_items` are the items that do.
    """

    learned: Interactions
    history: History
    wanted: csr_matrix
    beyond: Ints
    strangers: int
    unknown_items: int

    @property
    def asked(self) -> Ints:
        """The users with a history of whom something is to be guessed."""
        return np.flatnonzero(self._wants[: self.history.n_users])

    @property
    def asked_strangers(self) -> Ints:
        """The users without a history of whom something is to be guessed."""
        return self.history.n_users + np.flatnonzero(self._wants[self.history.n_users :])

    @property
    def _wants(self) -> Flags:
        wants: Flags = np.diff(self.wanted.indptr) + self.beyond > 0
        return wants


def hide(rows: Interactions, hidden: Flags) -> Exam:
    """Hide some interactions from the others."""
    learned, users, items = numbered_pairs(rows.take(~hidden))
    history = history_of(learned)
    kept = rows.take(hidden)
    pairs = np.unique(np.column_stack([kept.users, kept.items]), axis=0).reshape(-1, 2)
    strange = np.unique(pairs[users[pairs[:, 0]] < 0, 0])
    users = users.copy()
    users[strange] = history.n_users + np.arange(len(strange))
    of_user, of_item = users[pairs[:, 0]], items[pairs[:, 1]]
    known, shape = of_item >= 0, (history.n_users + len(strange), history.n_items)
    wanted = csr_matrix((np.ones(int(known.sum()), np.float32), (of_user[known], of_item[known])), shape=shape)
    new: csr_matrix = (wanted - wanted.multiply(history.with_strangers(len(strange)).seen)).astype(np.bool_)
    new.eliminate_zeros()
    return Exam(
        learned=learned,
        history=history,
        wanted=new,
        beyond=np.bincount(of_user[~known], minlength=shape[0]),
        strangers=len(strange),
        unknown_items=len(np.unique(pairs[~known, 1])),
    )


def newest_share(rows: Interactions, share: float) -> Flags:
    """The newest interactions of all; those of one moment stay together."""
    cut = rows.times[min(int(len(rows) * (1.0 - share)), len(rows) - 1)]
    newest: Flags = rows.times >= cut
    return newest


def random_share(rows: Interactions, share: float, *, seed: int) -> Flags:
    """Interactions drawn one by one."""
    return np.random.default_rng(seed).random(len(rows)) < share


def newest_of_each(rows: Interactions, share: float, *, seed: int) -> Flags:
    """The newest interactions of each user, of one moment those that chance picks; nobody loses the only one."""
    lengths = np.bincount(rows.users, minlength=len(rows.user_ids))
    by_user = np.lexsort((np.random.default_rng(seed).permutation(len(rows)), rows.times, rows.users))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    hidden = np.maximum((lengths * share).astype(np.int64), (lengths > 1).astype(np.int64))
    flags = np.zeros(len(rows), np.bool_)
    flags[by_user] = place >= np.repeat(lengths - hidden, lengths)
    return flags
