"""Interactions: who took what, when, and how much they liked it.

In: the lake of a dataset. Out: arrays, one row an interaction, in the order of time.
Invariant: users and items are numbered by what they did and had done to them, never by name, so that no figure depends
on how they are called or in which order rows came.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from reference_system.arrays import Flags, Floats, Ints, Micros
from reference_system.errors import TrainingError
from reference_system.events import Topic
from reference_system.lake import delta_lake
from reference_system.use_cases.recommendation.events import RATINGS, WATCHES
from reference_system.use_cases.recommendation.labels import MIN_COMPLETION

_BEST_RATING = 5.0
Marks = NDArray[np.uint64]
# As far as neighbours of neighbours: what is alike up to there plays the same part.
_ROUNDS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Interactions:
    """Interactions by time; `users`, `items`: indices into the ids (see `numbered_pairs`); `values` in [0, 1]."""

    user_ids: NDArray[np.str_]
    item_ids: NDArray[np.str_]
    users: Ints
    items: Ints
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
    stand beside `indices`. `places` counts in the user's own list from 0, the newest; items of one moment share the
    middle of their places.
    """

    n_users: int
    n_items: int
    indptr: Ints
    indices: Ints
    times: Micros
    values: Floats
    places: Floats

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
    def lengths(self) -> Ints:
        """How many items each user took."""
        lengths: Ints = np.diff(self.indptr)
        return lengths

    def with_strangers(self, count: int) -> History:
        """The same history with users at the end who took nothing."""
        indptr = np.append(self.indptr, np.full(count, self.indptr[-1]))
        return replace(self, n_users=self.n_users + count, indptr=indptr)


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
    user_ids, users = _by_name(table["viewer_id"])
    item_ids, items = _by_name(table["video_id"])
    found = Interactions(
        user_ids=user_ids,
        item_ids=item_ids,
        users=users,
        items=items,
        times=table["event_timestamp"].cast(pa.int64()).to_numpy(),
        values=table[value].to_numpy() / (1.0 if live else _BEST_RATING),
    )
    return numbered_pairs(found)[0]


def numbered_pairs(rows: Interactions) -> tuple[Interactions, Ints, Ints]:
    """The same interactions, in order, with users and items numbered by what these interactions say of them.

    The item that most users took is number 0, of equal ones that which was taken first; what still is alike is told
    apart by who took it, and they by what else they took. Names decide only where nothing else can.

    Returns:
        The interactions without the users and items that have none, and the new numbers of the old users and of the
        old items, -1 where they are left out.
    """
    n_users, n_items = len(rows.user_ids), len(rows.item_ids)
    user_marks, item_marks = _marks(rows)
    pairs = np.unique(rows.users * max(n_items, 1) + rows.items)
    user_order = _order(rows.users, pairs // max(n_items, 1), rows.times, user_marks, n_users)
    item_order = _order(rows.items, pairs % max(n_items, 1), rows.times, item_marks, n_items)
    users, items = _inverse(user_order, n_users), _inverse(item_order, n_items)
    in_order = np.lexsort((rows.values, items[rows.items], users[rows.users], rows.times))
    found = Interactions(
        user_ids=rows.user_ids[user_order],
        item_ids=rows.item_ids[item_order],
        users=users[rows.users][in_order],
        items=items[rows.items][in_order],
        times=rows.times[in_order],
        values=rows.values[in_order],
    )
    return found, users, items


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
    return History(
        n_users=n_users,
        n_items=n_items,
        indptr=indptr,
        indices=items,
        times=rows.times[kept],
        values=rows.values[kept],
        places=_places(users, rows.times[kept], indptr),
    )


def _places(users: Ints, times: Micros, indptr: Ints) -> Floats:
    """How many of a user's items are newer than each, with half of those of the same moment."""
    newest_first = np.lexsort((-times, users))
    users, times = users[newest_first], times[newest_first]
    first = np.append([True], (np.diff(users) != 0) | (np.diff(times) != 0))[: len(users)]
    runs, starts = np.cumsum(first) - 1, np.flatnonzero(first)
    lengths = np.diff(np.append(starts, len(users)))
    middle = starts + (lengths - 1) / 2.0
    places = np.empty(len(users))
    places[newest_first] = middle[runs] - indptr[:-1][users]
    return places


def _by_name(ids: pa.ChunkedArray) -> tuple[NDArray[np.str_], Ints]:
    """The distinct ids, sorted, and the index of each row's."""
    coded = ids.combine_chunks().dictionary_encode()
    names = np.array(coded.dictionary.to_pylist(), np.str_)
    order = np.argsort(names)
    return names[order], _inverse(order, len(names))[coded.indices.to_numpy()]


def _inverse(order: Ints, count: int) -> Ints:
    """The place of each number in an order, -1 where it is not in it."""
    places = np.full(count, -1)
    places[order] = np.arange(len(order))
    return places


def _order(owners: Ints, of_pairs: Ints, times: Micros, marks: Marks, count: int) -> Ints:
    """Those that have interactions: most partners first, then the earliest first interaction, then by their marks."""
    partners = np.bincount(of_pairs, minlength=count)
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, owners, times)
    order = np.lexsort((marks, first, -partners))
    return order[partners[order] > 0]


def _marks(rows: Interactions) -> tuple[Marks, Marks]:
    """Numbers of users and of items that follow from their interactions alone, those of their partners, and so on.

    Source: Weisfeiler and Leman, The reduction of a graph to canonical form, 1968.
    """
    own = _mixed(rows.times.astype(np.uint64) ^ _mixed(rows.values.astype(np.float64).view(np.uint64)))
    users, items = (np.zeros(len(ids), np.uint64) for ids in (rows.user_ids, rows.item_ids))
    for _ in range(_ROUNDS):
        to_users, to_items = _mixed(own ^ items[rows.items]), _mixed(own ^ ~users[rows.users])
        users, items = np.zeros_like(users), np.zeros_like(items)
        np.add.at(users, rows.users, to_users)
        np.add.at(items, rows.items, to_items)
    return users, items


def _mixed(numbers: Marks) -> Marks:
    """Whole numbers that look drawn by chance, the same for the same number (splitmix64)."""
    found = numbers + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        found = (found ^ (found >> np.uint64(shift))) * np.uint64(factor)
    return found ^ (found >> np.uint64(31))
