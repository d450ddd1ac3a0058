"""Bins of a column of any table, fixed by the reference.

In: what is known about the reference's column. Out: the number of the bin of each cell.
Invariant: bins come from the reference alone; the two last bins are never-seen (among numbers: text) and missing.

Numbers get 60 bins with as many rows each, or, where there are few distinct ones, a bin for each and one for what
lies between. Texts get a bin each; of many, the frequent ones do, and the others share bins by their hash, so that
the bin of a text does not depend on how often the reference happened to have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reference_system.monitoring.drift_cells import numbers_of, texts_of
from reference_system.monitoring.histograms import FEW_VALUES, Counts
from reference_system.windows import Floats

Places = NDArray[np.int64]

FINE_BINS = 60
MOST_TEXTS = 40
HASHED_BINS = 16
# Of many texts, those with at least this share of the rows get a bin of their own.
FREQUENT = 0.02
_CELLS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberBins:
    """`edges` ascend; bin i holds `edges[i-1] < number <= edges[i]`. `few`: a bin for each distinct number."""

    edges: Floats
    few: bool
    # A grid over the edges: where a cell of it has no edge, the bin is known without a search.
    _grid: tuple[float, float, Places] | None = field(init=False)

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

    def place(self, cells: pa.Array) -> Places:
        """The bin of each cell, shape (n,)."""
        values, is_text = numbers_of(cells)
        return self.place_numbers(values, is_text)

    def place_numbers(self, values: Floats, is_text: NDArray[np.bool_] | None = None) -> Places:
        """The bin of each number, shape (n,)."""
        missing = np.isnan(values)
        some_missing = bool(missing.any())
        places = self._search(np.where(missing, 0.0, values) if some_missing else values)
        if some_missing:
            places[missing] = self.count - 1
        if is_text is not None:
            places[is_text] = self.count - 2
        return places

    def _search(self, values: Floats) -> Places:
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
    """`bins` has the bin of each text that has its own; `known` all texts, or `None` if they were too many to keep.

    Other known texts share `hashed` bins. `unseen` is how many rows of the reference speak for texts that it does not
    have: those whose text is the only one of its kind.
    Source: Good, The population frequencies of species, Biometrika 1953.
    """

    bins: Mapping[str, int]
    known: frozenset[str] | None
    hashed: int
    unseen: int

    @property
    def count(self) -> int:
        """The number of bins, with those for new and for missing texts."""
        return len(self.bins) + self.hashed + 2

    def place(self, cells: pa.Array) -> Places:
        """The bin of each cell, shape (n,)."""
        texts, codes = texts_of(cells)
        return np.array([self._bin(text) for text in texts], np.int64)[codes]

    def _bin(self, text: str | None) -> int:
        if text is None:
            return self.count - 1
        own = self.bins.get(text)
        if own is not None:
            return own
        if not self.hashed or (self.known is not None and text not in self.known):
            return self.count - 2
        return len(self.bins) + crc32(text.encode()) % self.hashed


Bins = NumberBins | TextBins


def number_bins(sample: Floats) -> NumberBins:
    """Bins for a column of numbers, shape (n,), of which some may be NaN."""
    ordered = np.sort(sample)
    ordered = ordered[: len(ordered) - int(np.isnan(ordered).sum())]
    if not len(ordered):
        return NumberBins(edges=np.empty(0), few=True)
    distinct = ordered[np.append([True], ordered[1:] != ordered[:-1])]
    if len(distinct) <= FEW_VALUES:
        # Each distinct number lies alone between the float just below it and itself.
        return NumberBins(edges=np.unique(np.concatenate([np.nextafter(distinct, -np.inf), distinct])), few=True)
    marks = ordered[np.arange(1, FINE_BINS) * len(ordered) // FINE_BINS]
    # A number that several bins' worth of rows share lies alone in its bin, apart from what lies just below.
    shared = marks[1:][marks[1:] == marks[:-1]]
    edges = np.unique(np.concatenate([marks, np.nextafter(shared, -np.inf)]))
    # Above the largest number nothing was seen, so an edge there has no bin to close.
    return NumberBins(edges=edges[edges < ordered[-1]], few=False)


def text_bins(counts: Mapping[str, int] | None) -> TextBins:
    """Bins for a column of texts; `counts` are the rows of each text, `None` if there are too many texts to keep."""
    if counts is None:
        return TextBins(bins={}, known=None, hashed=HASHED_BINS, unseen=0)
    known, rows = frozenset(counts), sum(counts.values())
    unseen = sum(count == 1 for count in counts.values())
    few = len(counts) <= MOST_TEXTS
    own = sorted(text for text, count in counts.items() if few or count >= FREQUENT * rows)
    bins = {text: place for place, text in enumerate(own)}
    return TextBins(bins=bins, known=known, hashed=0 if few else HASHED_BINS, unseen=unseen)


def count_into(counts: Counts, places: Places, chunks: Places) -> None:
    """Add rows to histograms, shape (chunks, bins), in place."""
    if len(counts) == 1:
        counts += np.bincount(places, minlength=counts.shape[1])
        return
    counts += np.bincount(chunks * counts.shape[1] + places, minlength=counts.size).reshape(counts.shape)


def _grid(edges: Floats) -> tuple[float, float, Places] | None:
    """Where the grid begins, cells per unit, the bin of each cell (-1: search); `None` where none would help."""
    if len(edges) < FEW_VALUES or not np.isfinite(edges[[0, -1]]).all():
        return None
    low, width = float(edges[0]), float(edges[-1]) - float(edges[0])
    scale = _CELLS / width if width > 0 else np.inf
    if not np.isfinite(scale):
        return None
    # The cell of an edge is found as that of a value is, and never falls where the value grows: other cells are sure.
    of_edges = np.clip((edges - low) * scale + 1.0, 0.0, _CELLS + 1.0).astype(np.int64)
    inside = np.searchsorted(of_edges, np.arange(_CELLS + 2), side="left")
    inside[of_edges] = -1
    return low, scale, inside.astype(np.int64)
