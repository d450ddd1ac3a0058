"""The daily and weekly rhythm: how much of a week's activity is in a time span.

In: weights of the hours and of the weekdays. Out: shares of activity, and random times that follow them.
Invariant: an average day has mass 1, for any weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY
from reference_system.world.columns import distinct

_HOURS = 24
_WEEK_DAYS = 7
_WEEK = _WEEK_DAYS * MICROS_PER_DAY
# 1970-01-01 was a Thursday; our weeks begin on Monday.
_FIRST_MONDAY = 4 * MICROS_PER_DAY
_EDGES = np.arange(_WEEK_DAYS * _HOURS + 1) * (MICROS_PER_DAY / _HOURS)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """`knots` is the activity from Monday 00:00 to each hour of the week, in average days."""

    knots: Floats

    def mass(self, start: int, end: int) -> float:
        """The activity in [start, end), in average days."""
        first, last = self._activity(np.array([start, end]))
        return float(last - first)

    def moments(self, rng: np.random.Generator, count: int, start: int, end: int) -> Micros:
        """`count` distinct times in [start, end), ascending, with the density of the rhythm."""
        first, last = self._activity(np.array([start, end]))
        weeks, rest = np.divmod(rng.uniform(first, last, count), _WEEK_DAYS)
        times = (_FIRST_MONDAY + weeks * _WEEK + np.interp(rest, self.knots, _EDGES)).astype(np.int64)
        return distinct(np.clip(times, start, end - 1))

    def _activity(self, times: Micros) -> Floats:
        weeks, rest = np.divmod(times - _FIRST_MONDAY, _WEEK)
        return weeks * float(_WEEK_DAYS) + np.interp(rest, _EDGES, self.knots)


def rhythm(hours: tuple[float, ...], weekdays: tuple[float, ...]) -> Rhythm:
    """The rhythm of 24 hourly and 7 daily weights (Monday first)."""
    weights = np.outer(weekdays, hours).ravel()
    knots = np.concatenate([[0.0], np.cumsum(weights)])
    return Rhythm(knots * (_WEEK_DAYS / knots[-1]))


# Shops: two peaks, noon and early evening, quiet nights, a busy Friday and Saturday.
PAYMENT_RHYTHM = rhythm(
    (0.3, 0.2, 0.15, 0.15, 0.2, 0.4, 1, 2, 3, 4, 5, 6, 6.5, 6, 5, 5, 5.5, 6.5, 6.5, 5, 3.5, 2.2, 1.3, 0.7),
    (0.95, 0.95, 0.97, 1.0, 1.2, 1.25, 0.68),
)
# Screens: one peak after dinner, more on weekends.
VIEWING_RHYTHM = rhythm(
    (
        2,
        1.2,
        0.7,
        0.4,
        0.3,
        0.4,
        0.8,
        1.4,
        1.6,
        1.6,
        1.8,
        2.2,
        2.8,
        2.6,
        2.3,
        2.4,
        2.8,
        3.6,
        4.8,
        6.2,
        7.4,
        7.6,
        6,
        3.8,
    ),
    (0.9, 0.88, 0.9, 0.92, 1.05, 1.18, 1.17),
)
