"""Columns of any table, told apart: numbers, categories, and what is not compared, with the reason.

In: batches of two tables. Out: what is known about each column, and a kind or a reason.
Invariant: the decision follows from the reference's cells and, for clocks and counters, from both; never from a name,
and from the order of rows only where a reader says that there is one. A column that is not compared is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.monitoring.histograms import HistogramKind
from reference_system.monitoring.table_drift.cells import (
    UNREADABLE,
    CellReading,
    CellType,
    cell_numbers,
    cell_type,
    coded,
    encoded,
    null_cells,
    numbers_of,
    truths_in,
)
from reference_system.monitoring.table_drift.timestamps import look_like_moments

ColumnBatch = Mapping[str, pa.Array]
Order = Floats | None

# So many numbers of a column are kept whole. Of more, every second (fourth …) row tells where bins begin and end.
SAMPLE = 125_000
MOST_DISTINCT = 100_000
# Nearly every text is the only one of its kind: it names its row, and says nothing about the others.
NEARLY_UNIQUE = 0.9
_FEWEST_TO_TELL = 50
_MOSTLY = 0.9
_ID_LIKE = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
# Where so many repeats were to be expected and there is none, numbers are keys.
_SURE = 5.0
_A_TIME = "a time: it moves on by itself"
_FIRST_YEAR, _LAST_YEAR = 1900, 2100
_MONTHS = np.array([31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


@dataclass(frozen=True, slots=True, kw_only=True)
class TableView:
    """A table that is read in batches, as often as it takes; `name` is for people."""

    name: str
    types: Mapping[str, pa.DataType]
    batches: Callable[[], Iterator[ColumnBatch]]


def held(table: TableView) -> TableView:
    """The table, read once and kept in memory; each text of it is kept once as well."""
    batches: list[ColumnBatch] = []

    def read() -> Iterator[ColumnBatch]:
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
    """What one pass found out about a column: how many cells are what, a sample in row order, the texts.

    `present` cells are not missing. Of those of texts `numeric` are numbers, `spans` durations, `moments` times,
    `truths` true or false, `ids` written as UUIDs are, `unreadable` no UTF-8.
    """

    type: CellType
    lasts: bool = False  # the type itself is a duration
    present: int = 0
    numeric: int = 0
    spans: int = 0
    moments: int = 0
    truths: int = 0
    ids: int = 0
    unreadable: int = 0
    stride: int = 1
    _texts: list[pa.Table] = field(default_factory=list)
    _too_many: bool = False
    _kept: list[Floats] = field(default_factory=list)
    _rows: int = 0

    def add(self, cells: pa.Array) -> None:
        """Take a batch in."""
        if self.type == "number":
            numbers = numbers_of(cells)[0]
            self.numeric += (found := len(numbers) - int(np.isnan(numbers).sum()))
            self.present += found
            self._keep(numbers)
        elif self.type == "text":
            self._add_texts(*coded(cells))
        else:
            self.present += len(cells) - int(null_cells(cells).sum())

    def sample(self) -> Floats:
        """At most twice `SAMPLE` numbers: those of every `stride`-th row; NaN where there is none."""
        if len(self._kept) > 1:
            self._kept = [np.concatenate(self._kept)]
        return self._kept[0] if self._kept else np.empty(0)

    def texts(self) -> dict[str, int] | None:
        """The rows of each text; `None` if they are too many to keep."""
        self._merge()
        if self._too_many:
            return None
        return {text: rows for each in self._texts for text, rows in zip(*each.to_pydict().values(), strict=True)}

    def mostly(self, cells: int) -> bool:
        """Whether nearly all that is there are these."""
        return self.present > 0 and cells >= _MOSTLY * self.present

    def _add_texts(self, distinct: pa.Array, codes: NDArray[np.int64]) -> None:
        rows = np.bincount(codes, minlength=len(distinct) + 1)[: len(distinct)]
        numbers = cell_numbers(distinct, "numbers")
        is_number, missing = ~np.isnan(numbers), null_cells(distinct)
        self.present += int(rows[~missing].sum())
        self.numeric += int(rows[is_number].sum())
        if len(others := np.flatnonzero(~is_number & ~missing)):
            self._add_others(distinct.take(pa.array(others)), rows[others])
            numbers[others] = cell_numbers(distinct.take(pa.array(others)), "durations")
        self._keep(np.append(numbers, np.nan)[codes])
        if not self._too_many:
            self._texts.append(pa.table({"text": distinct, "rows": rows}))
            if sum(map(len, self._texts)) > 2 * MOST_DISTINCT:
                self._merge()

    def _add_others(self, texts: pa.Array, rows: NDArray[np.int64]) -> None:
        """Texts that are no numbers, and how many rows have each."""
        self.spans += int(rows[~np.isnan(cell_numbers(texts, "durations"))].sum())
        self.moments += int(rows[look_like_moments(texts)].sum())
        self.truths += int(rows[truths_in(texts) >= 0].sum())
        self.ids += int(rows[_flags(pc.match_substring_regex(texts, _ID_LIKE, ignore_case=True))].sum())
        self.unreadable += int(rows[_flags(pc.match_substring(texts, UNREADABLE))].sum())

    def _merge(self) -> None:
        """Each text once, without those that only stand for a missing one."""
        if self._texts:
            tables = [each.set_column(0, "text", each["text"].cast(pa.large_string())) for each in self._texts]
            found = pa.concat_tables(tables).group_by("text").aggregate([("rows", "sum")])
            there = pc.and_(pc.is_valid(found["text"]), pc.greater(found["rows_sum"], 0))
            merged = found.filter(there).rename_columns(["text", "rows"])
            self._too_many = len(merged) > MOST_DISTINCT
            self._texts = [] if self._too_many else [merged]

    def _keep(self, numbers: Floats) -> None:
        self._kept.append(numbers[-self._rows % self.stride :: self.stride].copy())
        self._rows += len(numbers)
        while sum(map(len, self._kept)) > 2 * SAMPLE:
            self._kept = [self.sample()[::2]]
            self.stride *= 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A column that is compared; `reading` says which of its texts are numbers, or truth values."""

    kind: HistogramKind
    reading: CellReading = "numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOutColumn:
    """A column that is not compared."""

    reason: str


def new_profile(kind: pa.DataType) -> ColumnProfile:
    """The profile of a column of this type before its first cell."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return ColumnProfile(type=cell_type(kind), lasts=pa.types.is_duration(value) or pa.types.is_time(value))


def tell_apart(
    reference: ColumnProfile, current: ColumnProfile, orders: tuple[Order, Order]
) -> Compared | LeftOutColumn:
    """What a column is, or why it is not compared; what it is called makes no difference.

    Args:
        reference: its profile there.
        current: its profile there.
        orders: for each table what orders its rows, in row order; `None` if their order means nothing.
    """
    if not reference.present and not current.present:
        return LeftOutColumn(reason="no value in either table")
    leading = reference if reference.present else current
    reason = _not_comparable(leading)
    if reason is not None:
        return LeftOutColumn(reason=reason)
    if leading.type == "number" or leading.mostly(leading.numeric):
        return _of_numbers((reference, current), orders)
    if leading.mostly(leading.numeric + leading.spans):
        return Compared(kind="number", reading="durations")
    return _of_texts(leading)


def _not_comparable(profile: ColumnProfile) -> str | None:
    if profile.type == "moment" or profile.mostly(profile.moments):
        return _A_TIME
    if profile.type == "other":
        return "its cells are neither numbers nor texts"
    return "its cells are bytes that are no text in UTF-8" if profile.mostly(profile.unreadable) else None


def _of_texts(profile: ColumnProfile) -> Compared | LeftOutColumn:
    texts = profile.texts()
    if texts is None:
        return LeftOutColumn(reason=f"identifier-like: more than {MOST_DISTINCT:,} different texts")
    if profile.ids == profile.present:
        return LeftOutColumn(reason="identifier-like: UUIDs")
    if profile.present >= _FEWEST_TO_TELL and len(texts) >= NEARLY_UNIQUE * profile.present:
        return LeftOutColumn(reason=f"identifier-like: {len(texts):,} different texts in {profile.present:,} rows")
    return Compared(kind="category", reading="truth" if profile.truths == profile.present else "numbers")


def _of_numbers(
    profiles: tuple[ColumnProfile, ColumnProfile], orders: tuple[Order, Order]
) -> Compared | LeftOutColumn:
    before, after = (profile.sample() for profile in profiles)
    leading = profiles[0] if profiles[0].present else profiles[1]
    sample = leading.sample()
    sample = sample[~np.isnan(sample)]
    ordered = [_in_order(*each) for each in zip((before, after), profiles, orders, strict=True)]
    if _is_whole(sample):
        distinct = len(np.unique(sample))
        grows = all(each is not None and len(each) > 1 and bool((each[1:] > each[:-1]).all()) for each in ordered)
        if distinct == len(sample) >= _FEWEST_TO_TELL and (grows or _repeats_expected(sample) >= _SURE):
            return LeftOutColumn(reason="identifier-like: whole numbers, each in one row")
        if _are_dates(sample):
            return LeftOutColumn(reason=_A_TIME)
    if _goes_on(*ordered):
        return LeftOutColumn(reason="a counter or a clock: it only grows, and goes on where the reference ends")
    if leading.lasts:
        return Compared(kind="number", reading="durations")
    return Compared(kind="number", reading="truth" if np.isin(sample, (0.0, 1.0)).all() else "numbers")


def _repeats_expected(sample: Floats) -> float:
    """How many pairs of equal numbers there would be, were they drawn evenly from their range."""
    return len(sample) ** 2 / (2.0 * (float(sample.max()) - float(sample.min()) + 1.0))


def _is_whole(sample: Floats) -> bool:
    # The first few settle it for most columns.
    parts = (sample[:_FEWEST_TO_TELL], sample)
    return all(bool((np.isfinite(part) & (part == np.floor(part))).all()) for part in parts)


def _are_dates(sample: Floats) -> bool:
    """Whether every number is a date as 20241231 is one."""
    year, month, day = sample // 10_000, sample // 100 % 100, sample % 100
    return bool(
        len(sample)
        and ((year >= _FIRST_YEAR) & (year < _LAST_YEAR)).all()
        and ((month >= 1) & (month <= len(_MONTHS))).all()
        and ((day >= 1) & (day <= _MONTHS[month.astype(np.int64) - 1])).all()
    )


def _in_order(sample: Floats, profile: ColumnProfile, order: Order) -> Order:
    """The sampled numbers in the order of the rows, of one moment the smaller first; without the missing ones."""
    if order is None:
        return None
    sample = sample[np.lexsort((sample, order[:: profile.stride]))]
    return sample[~np.isnan(sample)]


def _goes_on(before: Order, after: Order) -> bool:
    """Whether both only grow, by several steps, and the second begins where the first ends."""
    if before is None or after is None or min(len(before), len(after)) < _FEWEST_TO_TELL or before[-1] > after[0]:
        return False
    grow = all(bool((each[1:] >= each[:-1]).all()) for each in (before, after))
    return grow and int(np.count_nonzero(before[1:] > before[:-1])) > 1


def _flags(found: pa.Array) -> NDArray[np.bool_]:
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))
