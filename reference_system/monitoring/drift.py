"""Drift: has the distribution of a column changed, by more than chance and by enough to matter?

In: a column in blocks of 24 hours, of the reference and of the recent days. Out: psi with a verdict.
Invariant: without drift the columns compared together raise a false alarm with probability `LOOP_FALSE_ALARM_RATE`.

Like is compared with like. Blocks are counted back from now: block 0 is the last 24 hours, block 7 the same hours a
week earlier. The current window is blocks 0 and 1, and it is compared with the same two days of the reference weeks.

What is chance? Days differ, and rows of one customer are alike, so textbook thresholds are wrong. Every way to take
two such days out of the reference and to compare them with the rest gives a psi without drift. The threshold is the
far quantile of the scaled chi-square (what psi follows without drift) with their mean and variance; the rate is
shared among the columns that are compared together. `tests/unit/monitoring/test_false_alarms.py` measures the rate.
Source: Yurdakul, Statistical properties of population stability index, Western Michigan University, 2018.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]

from reference_system.arrays import Floats
from reference_system.monitoring.histograms import (
    Bins,
    Counts,
    HistogramKind,
    Values,
    count_blocks,
    fit_bins,
    ks_distance,
    missing_share,
    psi,
)

LOOP_FALSE_ALARM_RATE = 0.01
# The quantile is taken this much further out: two moments of a few days understate the tail (measured, see above).
_CAUTION = 3.0
# Below it a shift is real or not, but too small to act on. Source: Siddiqi, Credit Risk Scorecards, Wiley 2006.
MATERIAL_PSI = 0.1
CURRENT_BLOCKS = 2
TREND_BLOCKS = 7
LOOP_MIN_ROWS = 200
MIN_REFERENCE_BLOCKS = 4
_WEEK = 7

Status = Literal["steady", "drift", "not judged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSample:
    """One column of a stretch of time: `values[i]` happened in block `blocks[i]`, counted back from now.

    Shapes (n,). `empty` says for people why there is nothing, where there is nothing.
    """

    values: Values
    blocks: NDArray[np.int64]
    empty: str = "no rows"


class ColumnDrift(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one column; without a verdict `reason` says why and the figures may be absent."""

    column: str
    kind: HistogramKind | None = None
    status: Status = "not judged"
    reason: str = ""
    reference_rows: int = 0
    current_rows: int = 0
    missing_share: float = 0.0
    psi: float | None = None
    threshold: float | None = None
    ks: float | None = None
    # Days for which it has lasted, of the last `TREND_BLOCKS`; 0 without drift.
    days: int = 0
    trend: tuple[float | None, ...] = ()
    labels: tuple[str, ...] = ()
    reference_shares: tuple[float, ...] = ()
    current_shares: tuple[float, ...] = ()
    reference_mean: float | None = None
    current_mean: float | None = None


def compare_columns(
    reference: Mapping[str, ColumnSample], recent: Mapping[str, ColumnSample]
) -> tuple[ColumnDrift, ...]:
    """Compare every column that `recent` has; the false-alarm rate holds for all of them together."""
    return tuple(compare_column(name, reference[name], recent[name], columns=len(recent)) for name in recent)


def compare_column(name: str, reference: ColumnSample, recent: ColumnSample, *, columns: int = 1) -> ColumnDrift:
    """Compare one column.

    Args:
        name: the column's.
        reference: its reference days.
        recent: the last `TREND_BLOCKS` days; the first `CURRENT_BLOCKS` of them are the current window.
        columns: how many columns share the false-alarm rate.
    """
    in_window = recent.blocks < CURRENT_BLOCKS
    current = recent.values[in_window]
    known = ColumnDrift(
        column=name,
        reference_rows=len(reference.values),
        current_rows=len(current),
        missing_share=missing_share(current),
    )
    reason = _cannot_judge(reference, current, recent.empty)
    if reason:
        return msgspec.structs.replace(known, reason=reason)
    bins = fit_bins(reference.values)
    days = Days.of(bins, reference)
    recent_counts = count_blocks(bins, recent.values, recent.blocks, TREND_BLOCKS)
    window = recent_counts[:CURRENT_BLOCKS].sum(axis=0)
    like = days.like(range(CURRENT_BLOCKS))
    alike = reference.values[np.isin(reference.blocks % days.weekdays, range(CURRENT_BLOCKS))]
    value = float(psi(like, window))
    threshold = days.bound(CURRENT_BLOCKS, columns=columns)
    drifted = value > threshold
    trend = tuple(float(psi(days.like([i]), row)) if row.any() else None for i, row in enumerate(recent_counts))
    daily = days.bound(1, columns=columns)
    return msgspec.structs.replace(
        known,
        kind=bins.kind,
        status="drift" if drifted else "steady",
        psi=value,
        threshold=threshold,
        ks=_ks(bins, alike, current),
        days=max(1, _lasting(trend, daily)) if drifted else 0,
        trend=trend[::-1],
        labels=bins.labels(),
        reference_shares=_shares(like),
        current_shares=_shares(window),
        reference_mean=_mean(alike),
        current_mean=_mean(current),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """The reference's histograms by day.

    `counts` has shape (days, bins); `phases` (days,) says which day of a week (counted back from now) each is. With
    less than two weeks all days are taken to be alike: one phase.
    """

    counts: Counts
    phases: NDArray[np.int64]

    @classmethod
    def of(cls, bins: Bins, reference: ColumnSample) -> Days:
        """Count the reference by its days; days without rows are left out."""
        numbers, places = np.unique(reference.blocks, return_inverse=True)
        phases = numbers % _WEEK
        if np.bincount(phases, minlength=_WEEK).min() < 2:  # noqa: PLR2004 - one is compared with the others
            phases = np.zeros_like(phases)
        counts = count_blocks(bins, reference.values, places.astype(np.int64), len(numbers))
        return cls(counts=counts, phases=phases)

    def like(self, blocks: Sequence[int] | range) -> Counts:
        """The days that are like these blocks, together."""
        wanted = np.unique(np.array(blocks) % self.weekdays)
        total: Counts = self.counts[np.isin(self.phases, wanted)].sum(axis=0)
        return total

    def without_drift(self, width: int) -> Floats:
        """Every psi of `width` days in a row (any week's) against the other days like them."""
        values = []
        for phase in range(self.weekdays):
            wanted = [(phase + step) % self.weekdays for step in range(width)]
            total = self.like(wanted)
            for chosen in product(*(np.flatnonzero(self.phases == each) for each in wanted)):
                if len(set(chosen)) < width or (self.weekdays == 1 and list(chosen) != sorted(chosen)):
                    continue
                taken = self.counts[list(chosen)].sum(axis=0)
                values.append(float(psi(total - taken, taken)))
        return np.array(values)

    def bound(self, width: int, *, columns: int) -> float:
        """The psi of `width` days that one of `columns` columns exceeds by chance (`LOOP_FALSE_ALARM_RATE` in all)."""
        # What the days tell of their spread, less what was spent on the mean of each kind of window.
        freedom = max(len(self.counts) - width * self.weekdays, self.weekdays - 1, 1)
        return bound(
            self.without_drift(width), freedom=freedom, level=1.0 - LOOP_FALSE_ALARM_RATE / _CAUTION / columns
        )

    @property
    def weekdays(self) -> int:
        """How many kinds of days are told apart."""
        return _WEEK if self.phases.any() else 1


def bound(without_drift: Floats, *, freedom: int, level: float) -> float:
    """The far quantile of a psi without drift, never below `MATERIAL_PSI`."""
    return max(MATERIAL_PSI, far_bound(without_drift, freedom=freedom, level=level))


def far_bound(without_drift: Floats, *, freedom: int, level: float) -> float:
    """The far quantile of a distance, of which few values without drift are known; 0 if they do not vary.

    The quantile of a scaled chi-square with the mean and variance of `without_drift`, widened as Student's
    distribution widens the normal one, because few days tell the variance.
    Source of the approximation: Wilson and Hilferty, The distribution of chi-square, PNAS 1931.
    """
    mean, variance = float(without_drift.mean()), float(without_drift.var(ddof=1))
    if mean <= 0.0 or variance <= 0.0:
        return 0.0
    spread = variance / (3.0 * mean) ** 2  # 2 / (9 * degrees of freedom)
    quantile: float = mean * (1.0 - spread + student_quantile(level, freedom) * spread**0.5) ** 3
    return quantile


def student_quantile(level: float, freedom: int) -> float:
    """The quantile of Student's t."""
    return float(stdtrit(freedom, level))


def _cannot_judge(reference: ColumnSample, current: Values, empty: str) -> str:
    if not len(reference.values):
        return f"reference: {reference.empty}"
    days = len(np.unique(reference.blocks))
    if days < MIN_REFERENCE_BLOCKS:
        return f"reference: {days} days, {MIN_REFERENCE_BLOCKS} are needed"
    if missing_share(reference.values) == 1.0:
        return "reference: every value is missing"
    if not len(current):
        return f"current window: {empty}"
    few = min(len(reference.values), len(current))
    return f"{few} rows, {LOOP_MIN_ROWS} are needed" if few < LOOP_MIN_ROWS else ""


def _lasting(trend: Sequence[float | None], threshold: float) -> int:
    """How many of the last days, without a gap, were above the threshold."""
    for days, value in enumerate(trend):
        if value is None or value <= threshold:
            return days
    return len(trend)


def _ks(bins: Bins, reference: Values, current: Values) -> float | None:
    if bins.kind == "category" or missing_share(current) == 1.0:
        return None
    return ks_distance(reference, current)


def _shares(counts: Counts) -> tuple[float, ...]:
    return tuple((counts / max(int(counts.sum()), 1)).tolist())


def _mean(values: Values) -> float | None:
    if values.dtype.kind not in "fiub" or missing_share(values) == 1.0:
        return None
    return float(np.nanmean(values))
