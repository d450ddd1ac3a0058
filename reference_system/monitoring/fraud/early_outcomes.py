"""Early outcomes: are more payments reported as frauds already than ever at their age?

In: the moments of payments and of reports. Out: the reported frauds among the youngest payments, beside what such
payments had at the same age on earlier days, and a bound.
Invariant: without a change of the world a look raises an alarm with probability `LOOP_FALSE_ALARM_RATE` at most.

Labels mature after a week, but the first victims complain after a day. The payments of the last `EARLY_WINDOW_DAYS`
are compared with those that were just as young on each of the days before: a row of the reporting triangle, in the
words of insurers. Frauds come in episodes, so counts spread more than chance alone would have it: the bound is a far
quantile of the earlier counts themselves, on the scale of their square roots, where the spread does not grow with
the mean. `tests/unit/monitoring/fraud/test_early_outcomes.py` measures the rate on simulated worlds.
"""

from __future__ import annotations

import msgspec
import numpy as np

from reference_system.arrays import Micros
from reference_system.event_time import MICROS_PER_DAY
from reference_system.monitoring.drift import LOOP_FALSE_ALARM_RATE, student_quantile

EARLY_WINDOW_DAYS = 3
EARLY_REFERENCE_DAYS = 35
MIN_REFERENCE_DAYS = 7
# Fewer reports than these are nobody's attack, however rare they were before.
_LEAST_REPORTED = 10
# Seasons of fraud come and go; half as much again is one of them.
_MATERIAL_FACTOR = 1.5
# Between two looks of a day apart two thirds of the window are the same: so much fewer are the independent ones.
_CAUTION = 6.0
NOT_REPORTED = np.iinfo(np.int64).max


class EarlyOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """The youngest payments and what is reported of them; `usual` and `bound` are counts to compare with.

    `days` are the counts that payments of the same age had on the last days, the oldest first; the last one is
    today's.
    """

    window_days: int
    payments: int
    reported: int
    usual: float | None = None
    bound: float | None = None
    days: tuple[float, ...] = ()

    @property
    def alarming(self) -> bool:
        """Whether more are reported than chance and seasons explain."""
        return self.bound is not None and self.reported > self.bound


def early_outcomes(
    times: Micros, reported: Micros, withdrawn: Micros | None = None, *, as_of: int, learned_until: int
) -> EarlyOutcomes:
    """Compare the youngest payments with the earlier ones at their age.

    Args:
        times: when payments happened, ascending, shape (n,).
        reported: when each was reported as a fraud, `NOT_REPORTED` where it was not, shape (n,).
        withdrawn: when that was taken back, `NOT_REPORTED` where it was not, shape (n,); by default nowhere. At an
            earlier moment a report counts that was taken back later.
        as_of: now; microseconds, as all of them.
        learned_until: the end of what the champion learned from; with too few days before it, all days are compared.
    """
    first = times[0] if len(times) else as_of
    whole_days = max((as_of - int(first)) // MICROS_PER_DAY - EARLY_WINDOW_DAYS, 0) + 1
    if withdrawn is None:
        withdrawn = np.full(len(times), NOT_REPORTED)
    payments, counts = _counts(times, reported, withdrawn, as_of, whole_days)
    now = EarlyOutcomes(window_days=EARLY_WINDOW_DAYS, payments=int(payments[0]), reported=int(counts[0]))
    nearest = max(EARLY_WINDOW_DAYS, -((learned_until - as_of) // MICROS_PER_DAY))
    if whole_days - nearest < MIN_REFERENCE_DAYS:
        nearest = EARLY_WINDOW_DAYS
    places = np.arange(nearest, min(nearest + EARLY_REFERENCE_DAYS, whole_days))
    earlier = places[payments[places] > 0]
    if len(earlier) < MIN_REFERENCE_DAYS or not payments[0]:
        return now
    # As if as many payments had been made then as now.
    alike = counts * (payments[0] / np.maximum(payments, 1))
    roots = np.sqrt(alike[earlier])
    freedom = max(len(earlier) // EARLY_WINDOW_DAYS - 1, 1)
    far = student_quantile(1.0 - LOOP_FALSE_ALARM_RATE / _CAUTION, freedom + 2)
    spread = float(roots.std(ddof=1)) * (1.0 + EARLY_WINDOW_DAYS / len(earlier)) ** 0.5
    usual = float(alike[earlier].mean())
    bound = max((float(roots.mean()) + far * spread) ** 2, _MATERIAL_FACTOR * usual, float(_LEAST_REPORTED))
    shown = np.round(alike[: EARLY_REFERENCE_DAYS + 1][::-1], 1)
    return msgspec.structs.replace(now, usual=usual, bound=bound, days=tuple(shown.tolist()))


def _counts(times: Micros, reported: Micros, withdrawn: Micros, as_of: int, days: int) -> tuple[Micros, Micros]:
    """For each of the last days how many payments were in its window, and how many of them stood reported then."""
    ends = as_of - np.arange(days) * MICROS_PER_DAY
    starts = ends - EARLY_WINDOW_DAYS * MICROS_PER_DAY
    payments = np.searchsorted(times, ends) - np.searchsorted(times, starts)
    known = reported != NOT_REPORTED
    paid, told, until = times[known], reported[known], withdrawn[known]
    counts = [
        int(((paid >= start) & (paid < end) & (told <= end) & (until > end)).sum())
        for start, end in zip(starts, ends, strict=True)
    ]
    return payments.astype(np.int64), np.array(counts, np.int64)
