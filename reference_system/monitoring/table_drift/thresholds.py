"""Thresholds: what a chunk without drift exceeds with a stated probability.

In: draws of the statistic under chance alone, and the statistics of windows of the reference. Out: one threshold.
Invariant: a threshold is never below what chance alone asks for, and never blind to how much windows of the reference
differ from one another.

Chance alone would do if rows were drawn one by one from an urn. Rows in the order of time are not: those of an hour
are alike. So the reference is cut into windows as the current table is cut into chunks, each is compared with the
rest, and where they differ by more than chance the threshold follows them: first in proportion, and where the
difference is beyond doubt, by the far quantile that their mean and variance imply.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.monitoring.drift import far_bound
from reference_system.monitoring.table_drift.statistics import far_quantile

# The rate is aimed at so much below the stated one: quantiles are estimated, and one reference judges all chunks.
CAUTION = 3.0
# So many standard errors above chance, windows of the reference differ beyond doubt.
_BEYOND_DOUBT = 3.0
FEWEST_WINDOWS = 8
# More tell no more, and each takes the room of a histogram.
_MOST_WINDOWS = 200


def threshold(draws: Floats, windows: Floats, *, rate: float, columns: int) -> float:
    """The statistic that one of `columns` columns of a chunk without drift exceeds with probability `rate` in all.

    Args:
        draws: of the statistic under chance alone.
        windows: of the statistic of windows of the reference against the rest of it; may be empty.
        rate: the false-alarm rate for all columns of a chunk together.
        columns: how many are compared.
    """
    tail = rate / CAUTION / columns
    by_chance = far_quantile(draws, tail)
    mean, variance = float(draws.mean()), float(draws.var())
    if len(windows) < FEWEST_WINDOWS or mean <= 0.0:
        return by_chance
    found = by_chance * max(1.0, float(windows.mean()) / mean)
    if float(windows.mean()) - mean > _BEYOND_DOUBT * (variance / len(windows)) ** 0.5:
        found = max(found, far_bound(windows, freedom=len(windows) - 1, level=1.0 - tail))
    return found


def window_rows(reference_rows: int, chunk_rows: int) -> int:
    """How long the windows of the reference are: as chunks are, or as short as it takes to have a few of them."""
    return max(1, min(chunk_rows, reference_rows // (FEWEST_WINDOWS + 2)))


def few_of(windows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The window of each row, shape (n,), of evenly spaced ones if there are many; the other rows are one more."""
    each = -(-(int(windows.max()) + 1) // _MOST_WINDOWS)
    if each == 1:
        return windows
    return np.where(windows % each == 0, windows // each, int(windows.max()) // each + 1)
