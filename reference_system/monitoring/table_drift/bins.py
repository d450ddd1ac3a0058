"""Bins of a column of any table, fixed by the reference.

In: what is known about the reference's column. Out: the number of the bin of each cell.
Invariant: bins come from the reference (and from the texts that became frequent since); the two last bins are
never-seen (among numbers: text) and missing.

Numbers get 60 bins with as many rows each, or, where there are few distinct ones, a bin for each and one for what
lies between. Texts get a bin each; of many, those that are frequent, or became more frequent than chance explains, and
the others share one. No bin depends on how a text is spelled, nor on the order of rows: what two texts of the same
counts are called makes no difference to any figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reference_system.arrays import Floats, Ints
from reference_system.monitoring.histograms import FEW_VALUES, Counts
from reference_system.monitoring.table_drift.cells import CellReading, numbers_of, texts_of

FINE_BINS = 60
MOST_TEXTS = 40
# Of many texts, those with at least this share of the rows get a bin of their own, if they have so many rows: the
# count of a text that was picked for its count is too high, and the more so the smaller it is.
FREQUENT, FEWEST_ROWS = 0.02, 10
# A rarer text gets one, too, if the current table has it so many standard deviations more often than chance would.
_RISEN = 6.0
_CELLS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberBins:
    """`edges` ascend; bin i holds `edges[i-1] < number <= edges[i]`. `few`: a bin for each distinct number.

    `reading` says which texts are numbers as well.
    """

    edges: Floats
    few: bool
    reading: CellReading = "numbers"
    # A grid over the edges: where a cell of it has no edge, the bin is known without a search.
    _grid: tuple[float, float, Ints] | None = field(init=False)

    def __post_init__(self) -> None:
        """Lay the grid."""
        object.__setattr__(self, "_grid", _grid(self.edges))

    @property
    def count(self) -> int:
        """The number of bins, with those for text and for missing cells."""
        return len(self.edges) + 3

    @property
    def numbers(self) -> int:
        """The number of bins that hold numbers."""
        return len(self.edges) + 1

    def place(self, cells: pa.Array) -> Ints:
        """The bin of each cell, shape (n,)."""
        values, is_text = numbers_of(cells, self.reading)
        return self.place_numbers(values, is_text)

    def place_numbers(self, values: Floats, is_text: NDArray[np.bool_] | None = None) -> Ints:
        """The bin of each number, shape (n,)."""
        missing = np.isnan(values)
        some_missing = bool(missing.any())
        places = self._search(np.where(missing, 0.0, values) if some_missing else values)
        if some_missing:
            places[missing] = self.count - 1
        if is_text is not None:
            places[is_text] = self.count - 2
        return places

    def _search(self, values: Floats) -> Ints:
        if self._grid is None:
            return np.searchsorted(self.edges, values, side="left").astype(np.int64)
        low, scale, bins = self._grid
        with np.errstate(over="ignore", invalid="ignore"):
            at = values - low
            at *= scale
            at += 1.0
            cells = np.clip(at, 0.0, _CELLS + 1.0, out=at).astype(np.int64)
        places = bins[cells]
        unsure = np.flatnonzero(places < 0)
        places[unsure] = np.searchsorted(self.edges, values[unsure], side="left")
        return places


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBins:
    """`bins` has the bin of each text that has its own; the texts of `shared` are together in one more.

    `unseen` is how many rows of the reference speak for texts that it does not have: those whose text is the only one
    of its kind. `truth`: the texts are truth values, and the numbers 0 and 1 are as well.
    Source: Good, The population frequencies of species, Biometrika 1953.
    """

    bins: Mapping[str, int]
    shared: frozenset[str]
    unseen: int
    truth: bool = False

    @property
    def count(self) -> int:
        """The number of bins, with those for new and for missing texts."""
        return len(self.bins) + bool(self.shared) + 2

    def place(self, cells: pa.Array) -> Ints:
        """The bin of each cell, shape (n,)."""
        texts, codes = texts_of(cells, truth=self.truth)
        return np.array([self._bin(text) for text in texts], np.int64)[codes]

    def expected(self, reference: Counts) -> Counts:
        """What the reference's histogram, shape (bins,), says about rows that it does not have."""
        found = reference.copy()
        found[-2] += self.unseen
        if self.shared:
            # Among many texts they are all in the shared bin, where no row of another table would meet them.
            found[-3] -= self.unseen
        return found

    def _bin(self, text: str | None) -> int:
        if text is None:
            return self.count - 1
        return self.bins.get(text, self.count - (3 if text in self.shared else 2))


ColumnBins = NumberBins | TextBins


def number_bins(sample: Floats, reading: CellReading = "numbers") -> NumberBins:
    """Bins for a column of numbers, shape (n,), of which some may be NaN."""
    ordered = np.sort(sample)
    ordered = ordered[: len(ordered) - int(np.isnan(ordered).sum())]
    if not len(ordered):
        return NumberBins(edges=np.empty(0), few=True, reading=reading)
    distinct = ordered[np.append([True], ordered[1:] != ordered[:-1])]
    if len(distinct) <= FEW_VALUES:
        # Each distinct number lies alone between the float just below it and itself.
        edges = np.unique(np.concatenate([_below(distinct), distinct]))
        return NumberBins(edges=edges, few=True, reading=reading)
    marks = ordered[np.arange(1, FINE_BINS) * len(ordered) // FINE_BINS]
    # A number that several bins' worth of rows share lies alone in its bin, apart from what lies just below.
    shared = marks[1:][marks[1:] == marks[:-1]]
    edges = np.unique(np.concatenate([marks, _below(shared)]))
    # Above the largest number nothing was seen, so an edge there has no bin to close.
    return NumberBins(edges=edges[edges < ordered[-1]], few=False, reading=reading)


def text_bins(counts: Mapping[str, int], now: Mapping[str, int] | None = None, *, truth: bool = False) -> TextBins:
    """Bins for a column of texts.

    Args:
        counts: the rows of each text in the reference.
        now: those in the current table.
        truth: whether the texts are truth values.
    """
    own = set(counts)
    if len(counts) > MOST_TEXTS:
        least = max(FREQUENT * sum(counts.values()), FEWEST_ROWS)
        own = {text for text, count in counts.items() if count >= least} | _risen(counts, now or {})
    shared = frozenset(counts.keys() - own)
    unseen = sum(counts[text] == 1 for text in shared or own)
    # In any order, as long as it is the same one in every pass: no figure depends on it.
    return TextBins(
        bins={text: place for place, text in enumerate(sorted(own))}, shared=shared, unseen=unseen, truth=truth
    )


def _risen(counts: Mapping[str, int], now: Mapping[str, int]) -> set[str]:
    """The texts that the current table has more often than the reference and chance explain."""
    scale = sum(now.values()) / max(sum(counts.values()), 1)
    return {
        text
        for text, count in now.items()
        if text in counts
        and count - counts[text] * scale > _RISEN * (counts[text] * scale * (1.0 + scale) + 1.0) ** 0.5
    }


def count_into(counts: Counts, places: Ints, chunks: Ints) -> None:
    """Add rows to histograms, shape (chunks, bins), in place."""
    if len(counts) == 1:
        counts += np.bincount(places, minlength=counts.shape[1])
        return
    counts += np.bincount(chunks * counts.shape[1] + places, minlength=counts.size).reshape(counts.shape)


def _below(numbers: Floats) -> Floats:
    """The floats just below; below the smallest finite one lies minus infinity."""
    with np.errstate(over="ignore"):
        found: Floats = np.nextafter(numbers, -np.inf)
    return found


def _grid(edges: Floats) -> tuple[float, float, Ints] | None:
    """Where the grid begins, cells per unit, the bin of each cell (-1: search); `None` where none would help."""
    if len(edges) < FEW_VALUES or not np.isfinite(edges[[0, -1]]).all():
        return None
    low, width = float(edges[0]), float(edges[-1]) - float(edges[0])
    scale = _CELLS / width if 0.0 < width < np.inf else np.inf
    if not np.isfinite(scale):
        return None
    # The cell of an edge is found as that of a value is, and never falls where the value grows: other cells are sure.
    of_edges = np.clip((edges - low) * scale + 1.0, 0.0, _CELLS + 1.0).astype(np.int64)
    inside = np.searchsorted(of_edges, np.arange(_CELLS + 2), side="left")
    inside[of_edges] = -1
    return low, scale, inside.astype(np.int64)
