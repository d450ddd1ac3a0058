"""The scene of a monitoring run: when it looks, where, and which stretches of time it compares.

In: the event clock, folders, the champion. Out: blocks of 24 hours counted back from now, and samples of columns.
Invariant: a column is never compared with days on which its own windows were still filling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.monitoring.drift import ColumnSample
from reference_system.monitoring.histograms import Values
from reference_system.monitoring.report.record import TimeSpan
from reference_system.windows import View, WindowedView

_ONE_DAY = timedelta(days=1)
_WEEK = 7
REFERENCE_DAYS = 28
# With less than this share of the answers in the log, what is there may be any part of the day.
MIN_COVERAGE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedChampion:
    """A model that is judged: `learned_until` is the end of its data window, `score` gives shape (n,).

    `review` is the score from which a payment is reviewed; `None` where scores only order.
    """

    version: str
    learned_until: datetime
    metrics: Mapping[str, float]
    score: Callable[[Floats], Floats]
    review: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringRun:
    """Where and when. `live_start` is the end of the generated history: from then on models chose and answered.

    `kept_from` is the first moment of which the lake still has everything, where that is not the whole history.
    """

    lake: Path
    feature_tables: Path
    as_of: datetime
    history_start: datetime
    live_start: datetime
    kept_from: datetime | None = None

    def days_ago(self, days: int) -> datetime:
        """The same time of day, so many days earlier."""
        return self.as_of - days * _ONE_DAY

    def blocks(self, times: Micros) -> NDArray[np.int64]:
        """Which 24 hours each moment lies in, counted back from now: block 0 is the last 24 hours."""
        blocks: NDArray[np.int64] = (micros(self.as_of) - 1 - times) // MICROS_PER_DAY
        return blocks

    def weeks_before(self, moment: datetime) -> TimeSpan:
        """The last four whole weeks before `moment` and before this week, aligned so that days have like days.

        Where those are not kept any more it is the oldest four weeks that are.
        """
        moment = max(moment, self.oldest_end)
        weeks = max(1, -((moment - self.as_of) // (_WEEK * _ONE_DAY)))
        start = self.days_ago(weeks * _WEEK + REFERENCE_DAYS)
        return TimeSpan(
            start=max(start, self.history_start), end=max(self.days_ago(weeks * _WEEK), self.history_start)
        )

    @property
    def oldest_end(self) -> datetime:
        """The earliest moment before which four whole weeks are still kept."""
        if self.kept_from is None:
            return self.history_start
        return self.kept_from + (REFERENCE_DAYS + _WEEK) * _ONE_DAY

    def sample(self, times: Micros, values: Values, *, since: datetime, empty: str) -> ColumnSample:
        """The values from `since` on, as a sample."""
        keep = times >= micros(since)
        return ColumnSample(values=values[keep], blocks=self.blocks(times[keep]), empty=empty)


def horizons(views: tuple[View, ...]) -> dict[str, timedelta]:
    """For each windowed feature the time until its window is full."""
    return {
        window.name: timedelta(days=window.days + window.delay_days)
        for view in views
        if isinstance(view, WindowedView)
        for window in view.windows
    }


def nothing(reason: str) -> ColumnSample:
    """A sample without rows, and why."""
    return ColumnSample(values=np.empty(0), blocks=np.empty(0, np.int64), empty=reason)
