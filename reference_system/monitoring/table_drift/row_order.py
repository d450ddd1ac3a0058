"""The order of rows: moments from the column that a reader names, and chunks in that order.

In: that column in batches; how many rows a chunk has. Out: a number for each row that orders it; its chunk.
Invariant: the order in which rows of one moment stand in a file makes no difference: where the end of a chunk falls
among them, each counts on both sides with the share of their rows that belongs there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from reference_system.arrays import Floats, Ints
from reference_system.errors import TableRefused
from reference_system.monitoring.histograms import Counts, RowCounts
from reference_system.monitoring.table_drift.cells import cell_numbers, cell_type, coded, decoded, numbers_of
from reference_system.monitoring.table_drift.timestamps import look_like_moments, moments_of_text


@dataclass(slots=True, kw_only=True)
class RowOrder:
    """What orders rows, gathered batch by batch: microseconds since 1970, or numbers as they are.

    Texts are read as numbers, as moments with the day before the month, and with the day after it: the reading that
    fits the most rows of the whole column is the right one.
    """

    _readings: list[tuple[Floats, Floats, Floats]] = field(default_factory=list)

    def add(self, cells: pa.Array) -> None:
        """Take a batch in."""
        kind = cell_type(cells.type)
        if kind == "text":
            distinct, codes = coded(cells)
            found = (cell_numbers(distinct, "numbers"), *_moments_in(distinct))
            self._readings.append(tuple(np.append(each, np.nan)[codes] for each in found))  # type: ignore[arg-type]
            return
        if kind == "moment":
            times = decoded(cells).cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64(), safe=False)
            order = np.asarray(times.to_numpy(zero_copy_only=False))
        else:
            order = numbers_of(cells)[0]
        self._readings.append((order, order, order))

    def found(self, what: str) -> Floats:
        """The order of each row, shape (rows,), NaN where there is none; `what` names the column for people.

        Raises:
            TableRefused: if days and months cannot be told apart.
        """
        numbers, day_first, month_first = (np.concatenate(each) for each in zip(*self._readings, strict=True))
        known = [len(each) - int(np.isnan(each).sum()) for each in (numbers, day_first, month_first)]
        best = max(known)
        if known[0] == best:
            return numbers
        if known[1] == known[2] and not np.array_equal(day_first, month_first, equal_nan=True):
            raise TableRefused(
                f"{what}: days and months cannot be told apart, each date can be read both ways: write 2024-12-31"
            )
        return day_first if known[1] == best else month_first


def _moments_in(texts: pa.Array) -> tuple[Floats, Floats]:
    found = np.full((2, len(texts)), np.nan)
    for place in np.flatnonzero(look_like_moments(texts)).tolist():
        readings = moments_of_text(texts[place].as_py())
        found[:, place] = [np.nan if each is None else each for each in readings]
    return found[0], found[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Rows cut into chunks: `parts` (rows,) is what each row is counted in, `shares` (chunks, parts) where it belongs.

    There is a part for each chunk, and one for each run of rows of one moment that lies across the end of a chunk.
    """

    parts: Ints
    shares: Floats

    def chunks(self, counts: Counts) -> RowCounts:
        """The histograms of the chunks, shape (chunks, bins), from those of the parts, shape (parts, bins)."""
        return counts if self.shares.shape[0] == self.shares.shape[1] else self.shares @ counts


def cut(rows: int, order: Floats | None, size: int, few_of: Callable[[Ints], Ints] | None = None) -> Cut:
    """Cut rows into chunks of `size` rows.

    Args:
        rows: how many there are.
        order: what orders them, shape (rows,); `None` if they stand in order.
        size: the rows of a chunk.
        few_of: which chunk each chunk is counted in, where they are too many to keep apart.
    """
    numbers = np.arange(-(-rows // size))
    numbers = numbers if few_of is None else few_of(numbers)
    parts = numbers[np.arange(rows) // size]
    shares: list[Floats] = list(np.eye(int(numbers.max()) + 1))
    if order is None:
        return Cut(parts=parts, shares=np.array(shares))
    in_order = np.argsort(order, kind="stable")
    starts = np.flatnonzero(np.append([True], np.diff(order[in_order]) != 0.0))
    ends = np.append(starts[1:], rows)
    across = np.flatnonzero(starts // size != (ends - 1) // size)
    for start, end in zip(starts[across].tolist(), ends[across].tolist(), strict=True):
        chunks = np.arange(start // size, (end - 1) // size + 1)
        inside = np.minimum((chunks + 1) * size, end) - np.maximum(chunks * size, start)
        share = np.bincount(numbers[chunks], inside / (end - start), minlength=len(shares[0])).astype(np.float64)
        if np.count_nonzero(share) > 1:
            parts[start:end] = len(shares)
            shares.append(share)
    placed = np.empty(rows, np.int64)
    placed[in_order] = parts
    return Cut(parts=placed, shares=np.array(shares).T)
