"""Interactions: who took what, when, and how much they liked it; and the ways to hide some of them.

In: the lake of a dataset. Out: arrays, one row an interaction, in the order of time.
Invariant: a split puts every interaction on one side. What is hidden in time is never older than what is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from reference_system import delta_lake
from reference_system.errors import TrainingError
from reference_system.events import Topic
from reference_system.training.labelled_rows import Ids
from reference_system.use_cases.recommendation.events import RATINGS, WATCHES
from reference_system.use_cases.recommendation.labels import MIN_COMPLETION
from reference_system.windows import Floats, Micros

_BEST_RATING = 5.0
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """Interactions by time; `users` and `items` are indices into the sorted ids, `values` lie in [0, 1]."""

    user_ids: NDArray[np.str_]
    item_ids: NDArray[np.str_]
    users: Ids
    items: Ids
    times: Micros
    values: Floats

    def __len__(self) -> int:
        """How many there are."""
        return len(self.users)

    def take(self, chosen: Flags) -> Interactions:
        """Some of them, with the same indices of users and items."""
        return Interactions(
            user_ids=self.user_ids,
            item_ids=self.item_ids,
            users=self.users[chosen],
            items=self.items[chosen],
            times=self.times[chosen],
            values=self.values[chosen],
        )


@dataclass(frozen=True)
class History:
    """Each user's items, once each: where an item was taken more than once, the last time counts.

    Rows of a sparse matrix (users, items): `indptr` and `indices` as SciPy has them; `times`, `values` and `places`
    stand beside `indices`. `places` counts in the user's own list from 0, the newest.
    """

    n_users: int
    n_items: int
    indptr: Ids
    indices: Ids
    times: Micros
    values: Floats
    places: Ids

    def matrix(self, weights: Floats | None = None) -> csr_matrix:
        """The matrix with these weights, shape (n,), or with ones; float32."""
        data = np.ones(len(self.indices)) if weights is None else weights
        return csr_matrix((data.astype(np.float32), self.indices, self.indptr), shape=(self.n_users, self.n_items))

    @cached_property
    def seen(self) -> csr_matrix:
        """The matrix of ones."""
        return self.matrix()

    @cached_property
    def counts(self) -> Floats:
        """How many users took each item."""
        return np.bincount(self.indices, minlength=self.n_items).astype(np.float64)

    @cached_property
    def lengths(self) -> Ids:
        """How many items each user took."""
        lengths: Ids = np.diff(self.indptr)
        return lengths


def read_interactions(lake: Path, *, live: bool) -> Interactions:
    """The interactions of a dataset: every rating, whatever it says; of the live system the videos that were watched.

    Raises:
        TrainingError: if there are none.
    """
    topic: Topic = WATCHES if live else RATINGS
    value = "completion" if live else "rating"
    table = delta_lake.read(lake, topic, columns=["viewer_id", "video_id", value, "event_timestamp"]).read_all()
    if live:
        table = table.filter(pc.greater_equal(table["completion"], MIN_COMPLETION))
    if not table.num_rows:
        what = "no video was watched yet" if live else "the dataset holds no ratings"
        raise TrainingError(
            f"{what}: there is nothing to recommend from",
            next_command="workbook status" if live else "workbook data list",
        )
    keys = ("event_timestamp", "viewer_id", "video_id")
    table = table.sort_by([(key, "ascending") for key in keys])
    user_ids, users = _numbered(table["viewer_id"])
    item_ids, items = _numbered(table["video_id"])
    return Interactions(
        user_ids=user_ids,
        item_ids=item_ids,
        users=users,
        items=items,
        times=table["event_timestamp"].cast(pa.int64()).to_numpy(),
        values=table[value].to_numpy() / (1.0 if live else _BEST_RATING),
    )


def history_of(rows: Interactions) -> History:
    """What the users took."""
    n_users, n_items = len(rows.user_ids), len(rows.item_ids)
    # By user and item, the newest last: of each pair the last row stays.
    by_pair = np.lexsort((np.arange(len(rows)), rows.items, rows.users))
    users, items = rows.users[by_pair], rows.items[by_pair]
    last = np.append((np.diff(users) != 0) | (np.diff(items) != 0), True)[: len(rows)]
    kept, users, items = by_pair[last], users[last], items[last]
    lengths = np.bincount(users, minlength=n_users)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    newest_first = np.lexsort((-kept, users))
    place = np.empty(len(kept), np.int64)
    place[newest_first] = np.arange(len(kept)) - np.repeat(indptr[:-1], lengths)
    return History(
        n_users=n_users,
        n_items=n_items,
        indptr=indptr,
        indices=items,
        times=rows.times[kept],
        values=rows.values[kept],
        places=place,
    )


def hidden_items(hidden: Interactions, history: History) -> csr_matrix:
    """What each user is to be recommended: the hidden items that the history does not hold already; booleans."""
    wanted = history_of(hidden).seen
    new: csr_matrix = (wanted - wanted.multiply(history.seen)).astype(np.bool_)
    new.eliminate_zeros()
    return new


def newest_share(rows: Interactions, share: float) -> Flags:
    """The newest interactions of all; those of one moment stay together."""
    cut = rows.times[min(int(len(rows) * (1.0 - share)), len(rows) - 1)]
    newest: Flags = rows.times >= cut
    return newest


def random_share(rows: Interactions, share: float, *, seed: int) -> Flags:
    """Interactions drawn one by one."""
    return np.random.default_rng(seed).random(len(rows)) < share


def newest_of_each(rows: Interactions, share: float) -> Flags:
    """The newest interactions of each user; nobody loses the only one."""
    lengths = np.bincount(rows.users, minlength=len(rows.user_ids))
    by_user = np.argsort(rows.users, kind="stable")
    place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    hidden = np.maximum((lengths * share).astype(np.int64), (lengths > 1).astype(np.int64))
    flags = np.zeros(len(rows), np.bool_)
    flags[by_user] = place >= np.repeat(lengths - hidden, lengths)
    return flags


def _numbered(ids: pa.ChunkedArray) -> tuple[NDArray[np.str_], Ids]:
    """The distinct ids, sorted, and the index of each row's."""
    coded = ids.combine_chunks().dictionary_encode()
    names = np.array(coded.dictionary.to_pylist(), np.str_)
    order = np.argsort(names)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    return names[order], rank[coded.indices.to_numpy()]
