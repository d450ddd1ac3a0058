"""Histograms whose bins the reference window fixes, and the distances between two of them.

In: values of one column. Out: counts by bin, psi and the Kolmogorov-Smirnov distance.
Invariant: bins come from the reference alone (fitted on both windows they would hide the shift), and counting two
parts and merging them is counting the whole.

Numbers get the reference's deciles as edges; a column with few distinct values, or of text, gets a bin for each
value and one for values never seen before. Missing values are always a bin of their own, the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats

HistogramKind = Literal["number", "category"]
Values = NDArray[Any]
Counts = NDArray[np.int64]
# Of whole rows, or of shares of rows.
RowCounts = Counts | Floats

QUANTILES = 10
# A number with at most this many distinct values is read as a category.
FEW_VALUES = 12
# Every bin is taken to hold half a row more than it does (Jeffreys' prior), so that an empty bin has a logarithm.
SMOOTHING = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """The bins of one column.

    Numbers: `marks` are the upper edges, ascending; bin i holds `marks[i-1] < value <= marks[i]`, the last bin of
    numbers what lies above. Categories: `marks` are the values, sorted; one more bin holds all others.
    """

    kind: HistogramKind
    marks: Values

    @property
    def count(self) -> int:
        """The number of bins, with the one for missing values."""
        return len(self.marks) + 2

    def labels(self) -> tuple[str, ...]:
        """A name for each bin."""
        if self.kind == "category":
            return (*(_text(mark) for mark in self.marks), "other", "missing")
        edges = [_text(mark) for mark in self.marks]
        between = [f"{low} – {high}" for low, high in pairwise(edges)]
        return (f"≤ {edges[0]}", *between, f"> {edges[-1]}", "missing")

    def place(self, values: Values) -> NDArray[np.intp]:
        """The number of the bin that each value belongs to."""
        if self.kind == "number":
            numbers = values.astype(np.float64)
            places = np.searchsorted(self.marks, numbers, side="left")
            places[np.isnan(numbers)] = self.count - 1
            return places
        missing = _is_missing(values)
        places = np.searchsorted(self.marks, values)
        known = self.marks[np.minimum(places, len(self.marks) - 1)] == values
        places[~known] = len(self.marks)
        places[missing] = self.count - 1
        return places


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts by bin, shape (bins.count,)."""

    bins: Bins
    counts: Counts

    def merge(self, other: Histogram) -> Histogram:
        """The histogram of both parts.

        Raises:
            ValueError: if they do not have the same bins.
        """
        if self.bins.kind != other.bins.kind or not np.array_equal(self.bins.marks, other.bins.marks):
            raise ValueError("histograms with different bins cannot be merged")
        return Histogram(bins=self.bins, counts=self.counts + other.counts)


def fit_bins(reference: Values) -> Bins:
    """The bins that the reference window gives a column.

    Raises:
        ValueError: if it has no value.
    """
    present = reference[~_is_missing(reference)]
    if not len(present):
        raise ValueError("bins cannot be fitted on a reference without values")
    distinct = np.unique(present)
    if present.dtype.kind in "UOS" or len(distinct) <= FEW_VALUES:
        return Bins(kind="category", marks=distinct)
    edges = np.quantile(present, np.arange(1, QUANTILES) / QUANTILES)
    # A value that many rows share would be several edges at once.
    return Bins(kind="number", marks=np.unique(edges))


def count_blocks(bins: Bins, values: Values, blocks: NDArray[np.int64], n_blocks: int) -> Counts:
    """One histogram for each block of rows, in one pass; shape (n_blocks, bins.count).

    Args:
        bins: where values belong.
        values: shape (n,).
        blocks: shape (n,), the block of each value, in [0, n_blocks).
        n_blocks: how many there are.
    """
    flat = np.bincount(blocks * bins.count + bins.place(values), minlength=n_blocks * bins.count)
    return flat.reshape(n_blocks, bins.count)


def histogram(bins: Bins, values: Values) -> Histogram:
    """Count the values."""
    return Histogram(bins=bins, counts=count_blocks(bins, values, np.zeros(len(values), np.int64), 1)[0])


def psi(reference: RowCounts, current: RowCounts) -> Floats:
    """The population stability index of counts, over the last axis.

    `sum((q - p) * ln(q / p))` over the bins, with shares p of the reference and q of the current window after
    smoothing; bins that are empty in both say nothing.
    """
    bins = reference.shape[-1]
    p = (reference + SMOOTHING) / (reference.sum(axis=-1, keepdims=True) + SMOOTHING * bins)
    q = (current + SMOOTHING) / (current.sum(axis=-1, keepdims=True) + SMOOTHING * bins)
    parts: Floats = np.where(reference + current > 0, (q - p) * np.log(q / p), 0.0)
    # Sorted before they are added: to the last digit, the order of the bins makes no difference.
    total: Floats = np.asarray(np.sort(parts, axis=-1).sum(axis=-1))
    return total


def ks_distance(reference: Values, current: Values) -> float:
    """The largest gap between the two cumulative distributions; missing values are left out.

    Raises:
        ValueError: if one of them has no value.
    """
    one, other = (np.sort(part[~_is_missing(part)].astype(np.float64)) for part in (reference, current))
    if not len(one) or not len(other):
        raise ValueError("a distance needs values on both sides")
    at = np.concatenate([one, other])
    gaps = np.searchsorted(one, at, side="right") / len(one) - np.searchsorted(other, at, side="right") / len(other)
    return float(np.abs(gaps).max())


def missing_share(values: Values) -> float:
    """The share of missing values; 0 of none."""
    return float(_is_missing(values).mean()) if len(values) else 0.0


def _is_missing(values: Values) -> NDArray[np.bool_]:
    """NaN among numbers, the empty text among texts."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind in "US":
        return np.asarray(values == "")
    return np.zeros(len(values), np.bool_)


def _text(mark: object) -> str:
    return f"{mark:.4g}" if isinstance(mark, float | np.floating) else str(mark)
