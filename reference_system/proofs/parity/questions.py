"""The feature requests of a prediction log: which windows were evaluated, when, and from which state.

In: keys, timestamps and state times of logged rows. Out: features from history, and bounds for a state of that age.
Invariant: recomputed values come from events alone (`features/history/requested_sums.py`), never from a state.

The time of a state is the time at which its newest event became known. Events known later were not in the state; this
is stream lag, and recomputing without them gives the served value. Where several topics or partitions feed a view,
events older than the newest may still have been in transit, for at most `UNSETTLED`. The served value then lies
between the sums with and without those events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.features.history.requested_sums import sums_at, sums_known
from reference_system.features.history.window_sums import features_of, terms_of
from reference_system.features.stream.state_rows import is_keyed_by, topics_of
from reference_system.windows import WindowedView

# The largest delay between topics, partitions and sinks of one system: 15 s at 1,440 times real time.
UNSETTLED = timedelta(hours=6)
# The state time where there was no state.
NO_STATE = -1
_UNSETTLED_MICROS = UNSETTLED // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """The rows that requests add to their own windows: sums, and whether the lake now counts the event.

    `sums` has shape (n, len(terms_of(view))), `counted` shape (n,).
    """

    sums: Floats
    counted: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The n requests of one view; times are microseconds.

    `states` holds the time of each state (`NO_STATE` if there was none), `read_at` the time at which it was read.
    """

    view: WindowedView
    keys: pa.Array
    moments: Micros
    states: Micros
    read_at: Micros
    own: Own | None = None

    def history(self, lake: Path) -> Floats:
        """The features from history, shape (n, len(view.features))."""
        sums = sums_at(self.view, lake, self.keys, self.moments)
        if self.own is not None:
            sums = sums + self.own.sums * ~self.own.counted[:, None]
        return features_of(self.view, sums)

    def known(self, lake: Path, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Bounds on the features of states as old as those that were read, for some of the requests."""
        newest = self.states[rows]
        if _is_fed_in_order(self.view):
            known = features_of(self.view, self._sums_known(lake, rows, newest, newest))
            return known, known
        settled = np.minimum(newest, self.read_at[rows] - _UNSETTLED_MICROS)
        # The lower bound has the fewest events and the most reversals.
        low = self._sums_known(lake, rows, settled, newest)
        return feature_bounds(self.view, low, self._sums_known(lake, rows, newest, settled))

    def _sums_known(self, lake: Path, rows: NDArray[np.int64], known: Micros, taken_back: Micros) -> Floats:
        moments = self.moments[rows]
        sums = sums_known(self.view, lake, self.keys.take(pa.array(rows)), moments, known, taken_back)
        if self.own is not None:
            held = self.own.counted[rows] & (moments <= known)
            sums = sums + self.own.sums[rows] * ~held[:, None]
        return sums


def feature_bounds(view: WindowedView, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The minimum and maximum of each feature while each of its sums lies between `low` and `high`."""
    place = {term: number for number, term in enumerate(terms_of(view))}
    least, most = features_of(view, low), features_of(view, high)
    for number, window in enumerate(view.windows):
        if window.denominator is None:
            continue
        edge = window.width_micros, window.delay_micros
        above, below = place[*edge, window.numerator], place[*edge, window.denominator]
        known = (low[:, [above, below]] == high[:, [above, below]]).all(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            smallest = np.nan_to_num(low[:, above] / high[:, below], nan=0.0)
            largest = np.nan_to_num(high[:, above] / low[:, below], nan=0.0, posinf=np.inf)
        # A window that may be empty has the minimum 0.
        smallest[low[:, below] == 0.0] = 0.0
        least[:, number] = np.where(known, least[:, number], smallest)
        most[:, number] = np.where(known, most[:, number], largest)
    return least, most


def _is_fed_in_order(view: WindowedView) -> bool:
    """Whether every event of an entity comes through one partition, so that the newest is also the last."""
    topics = topics_of(view)
    return len(topics) == 1 and all(is_keyed_by(view, topic) for topic in topics)
