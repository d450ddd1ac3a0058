"""Columns of any table, told apart: numbers, categories, and what is not compared, with the reason.

In: batches of two tables. Out: what is known about each column, and a kind or a reason.
Invariant: the decision follows from the reference and, for clocks and counters, from both; a column that is not
compared is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pyarrow as pa

from reference_system.monitoring.drift_cells import (
    CellType,
    cell_type,
    encoded,
    moments_of,
    nulls,
    numbers_of,
    texts_of,
)
from reference_system.monitoring.histograms import Kind
from reference_system.windows import Floats

Batch = Mapping[str, pa.Array]
Order = Floats | None

SAMPLE = 12_500
MOST_DISTINCT = 100_000
# Nearly every text is the only one of its kind: it names its row, and says nothing about the others.
NEARLY_UNIQUE = 0.9
_FEWEST_TO_TELL = 50
_MOSTLY = 0.9
_ID_NAME = re.compile(r"(?i:(^|[_\-. ])(id|ids|uuid|guid)$)|[a-z0-9](Id|ID|Uuid|UUID)$", re.ASCII)
_ID_LIKE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_MANY_DISTINCT = 100
# Where so many repeats were to be expected and there is none, numbers are keys.
_SURE = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """A table that is read in batches, as often as it takes; `name` is for people."""

    name: str
    types: Mapping[str, pa.DataType]
    batches: Callable[[], Iterator[Batch]]


def held(table: TableView) -> TableView:
    """The table, read once and kept in memory; each text of it is kept once as well."""
    batches: list[Batch] = []

    def read() -> Iterator[Batch]:
        if batches:
            yield from batches
            return
        found = []
        for batch in table.batches():
            found.append({name: encoded(cells) for name, cells in batch.items()})
            yield found[-1]
        batches.extend(found)

    return TableView(name=table.name, types=table.types, batches=read)


@dataclass(slots=True, kw_only=True)
class ColumnProfile:
    """What one pass found out about a column: counts, a sample in row order, the texts.

    `texts` are the rows of each text; `None` if they were too many to keep, or the column looked like numbers.
    """

    type: CellType
    present: int = 0
    numeric: int = 0
    stride: int = 1
    texts: dict[str, int] | None = field(default_factory=dict)
    nearly_unique: bool = False
    _kept: list[Floats] = field(default_factory=list)
    _rows: int = 0

    def add(self, cells: pa.Array) -> None:
        """Take a batch in."""
        cells = encoded(cells)
        if self.type not in {"number", "text"}:
            self.present += len(cells) - int(nulls(cells).sum())
            return
        numbers, is_text = numbers_of(cells)
        numeric = len(numbers) - int(np.isnan(numbers).sum())
        texts = 0 if is_text is None else int(is_text.sum())
        self.numeric += numeric
        self.present += numeric + texts
        self._keep(numbers)
        if texts and numeric >= _MOSTLY * (numeric + texts):
            self.texts = None
        elif texts and self.texts is not None:
            self._count(cells, self.texts)

    def sample(self) -> Floats:
        """At most twice `SAMPLE` numbers: those of every `stride`-th row; NaN where there is none."""
        if len(self._kept) > 1:
            self._kept = [np.concatenate(self._kept)]
        return self._kept[0] if self._kept else np.empty(0)

    @property
    def is_numbers(self) -> bool:
        """Whether nearly all that is there are numbers."""
        return self.present > 0 and self.numeric >= _MOSTLY * self.present

    def _keep(self, numbers: Floats) -> None:
        self._kept.append(numbers[-self._rows % self.stride :: self.stride].copy())
        self._rows += len(numbers)
        while sum(map(len, self._kept)) > 2 * SAMPLE:
            self._kept = [self.sample()[::2]]
            self.stride *= 2

    def _count(self, cells: pa.Array, texts: dict[str, int]) -> None:
        known, codes = texts_of(cells)
        rows = np.bincount(codes, minlength=len(known)).tolist()
        for text, count in zip(known, rows, strict=True):
            if count and text is not None:
                texts[text] = texts.get(text, 0) + count
        if len(texts) > MOST_DISTINCT:
            self.nearly_unique = len(texts) > NEARLY_UNIQUE * sum(texts.values())
            self.texts = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A column that is not compared."""

    reason: str


def new_profile(kind: pa.DataType) -> ColumnProfile:
    """The profile of a column of this type before its first cell."""
    return ColumnProfile(type=cell_type(kind))


def tell_apart(
    name: str, reference: ColumnProfile, current: ColumnProfile, orders: tuple[Order, Order]
) -> Kind | LeftOut:
    """What a column is, or why it is not compared.

    Args:
        name: the column's.
        reference: its profile there.
        current: its profile there.
        orders: for each table its moments in row order, or `None` if its rows stand in their order.
    """
    if not reference.present and not current.present:
        return LeftOut(reason="no value in either table")
    leading = reference if reference.present else current
    if leading.type == "moment":
        return LeftOut(reason="a time: it moves on by itself")
    if leading.type == "other":
        return LeftOut(reason="its cells are neither numbers nor texts")
    if leading.type == "number" or leading.is_numbers:
        return _of_numbers(name, (reference, current), orders)
    return _of_texts(name, leading)


def _of_texts(name: str, profile: ColumnProfile) -> Kind | LeftOut:
    if profile.texts is None:
        if profile.nearly_unique or _ID_NAME.search(name):
            return LeftOut(reason="identifier-like: too many different texts")
        return "category"
    first = list(islice(profile.texts, _FEWEST_TO_TELL))
    distinct, rows = len(profile.texts), sum(profile.texts.values())
    reason = None
    if all(_ID_LIKE.fullmatch(text) for text in first):
        reason = "identifier-like: UUIDs"
    elif not moments_of(pa.array(first))[1].any():
        reason = "a time: it moves on by itself"
    elif rows >= _FEWEST_TO_TELL and distinct >= NEARLY_UNIQUE * rows:
        reason = f"identifier-like: {distinct:,} different texts in {rows:,} rows"
    elif distinct > _MANY_DISTINCT and _ID_NAME.search(name):
        reason = f"identifier-like: its name, and {distinct:,} different texts"
    return "category" if reason is None else LeftOut(reason=reason)


def _of_numbers(
    name: str, profiles: tuple[ColumnProfile, ColumnProfile], orders: tuple[Order, Order]
) -> Kind | LeftOut:
    before, after = (profile.sample() for profile in profiles)
    sample = before if profiles[0].present else after
    sample = sample[~np.isnan(sample)]
    ordered = [_in_order(*each) for each in zip((before, after), profiles, orders, strict=True)]
    if _is_whole(sample):
        distinct = len(np.unique(sample))
        grows = all(len(each) > 1 and bool((np.diff(each) > 0).all()) for each in ordered)
        if distinct == len(sample) >= _FEWEST_TO_TELL and (grows or _repeats_expected(sample) >= _SURE):
            return LeftOut(reason="identifier-like: whole numbers, each in one row")
        if distinct > _MANY_DISTINCT and _ID_NAME.search(name):
            return LeftOut(reason=f"identifier-like: its name, and {distinct:,} different whole numbers")
    if _goes_on(*ordered):
        return LeftOut(reason="a counter or a clock: it only grows, and goes on where the reference ends")
    return "number"


def _repeats_expected(sample: Floats) -> float:
    """How many pairs of equal numbers there would be, were they drawn evenly from their range."""
    return len(sample) ** 2 / (2.0 * (float(sample.max()) - float(sample.min()) + 1.0))


def _is_whole(sample: Floats) -> bool:
    # The first few settle it for most columns.
    return all(bool((part == np.floor(part)).all()) for part in (sample[:_FEWEST_TO_TELL], sample))


def _in_order(sample: Floats, profile: ColumnProfile, order: Order) -> Floats:
    """The sampled numbers in the order of time, without the missing ones."""
    if order is not None:
        sample = sample[np.argsort(order[:: profile.stride], kind="stable")]
    return sample[~np.isnan(sample)]


def _goes_on(before: Floats, after: Floats) -> bool:
    """Whether both only grow, by several steps, and the second begins where the first ends."""
    if min(len(before), len(after)) < _FEWEST_TO_TELL or before[-1] > after[0]:
        return False
    steps = np.diff(before)
    return bool((steps >= 0).all() and (np.diff(after) >= 0).all() and np.count_nonzero(steps) > 1)
