"""Viewers: the activity of each before and during an experiment, and its value on a metric.

In: counts by viewer. Out: the two sums of a metric, and the value expected from earlier activity (CUPED).
Invariant: the expectation is a fixed function of a viewer's activity before the experiment, fitted on weeks before it.
So subtracting it removes only noise from the difference between the arms, and viewers stay independent.

Source: A. Deng, Y. Xu, R. Kohavi, T. Walker, Improving the sensitivity of online controlled experiments by utilizing
pre-experiment data, WSDM 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.experiments.definition import ExperimentMetric

# Viewers with few pages are shrunk towards the overall rate, as if they had this many more pages at that rate.
_PRIOR_PAGES = 5.0
# An expectation fitted to fewer viewers would be noise.
_FEWEST_TO_FIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The viewers' activity in a time span; shapes (viewers,)."""

    pages: Floats
    shown: Floats  # videos on these pages
    watches: Floats  # of at least half of a video
    minutes: Floats

    def take(self, rows: NDArray[np.generic]) -> Activity:
        """Select viewers by a mask or indices."""
        return Activity(
            pages=self.pages[rows], shown=self.shown[rows], watches=self.watches[rows], minutes=self.minutes[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentViewers:
    """Viewers with the time from which they count: activity in the window after it, and in the weeks before."""

    first: Micros
    window: Activity
    before: Activity

    def __len__(self) -> int:
        """The number of viewers."""
        return len(self.first)

    def take(self, rows: NDArray[np.generic]) -> ExperimentViewers:
        """Select viewers by a mask or indices."""
        return ExperimentViewers(first=self.first[rows], window=self.window.take(rows), before=self.before.take(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """Viewers of an experiment in the order of their first exposures; shapes (viewers,)."""

    ids: list[str]
    treated: NDArray[np.bool_]
    first: Micros
    exposures: Floats
    other_version: Floats  # exposures answered by another version than the arm's


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """A metric is the sum of `values` divided by the sum of `per`, over any viewers; shapes (viewers,)."""

    values: Floats
    per: Floats

    @property
    def metric(self) -> float:
        """The metric over all viewers."""
        return float(self.values.sum() / self.per.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The expected surplus of a viewer's value over the overall rate, from earlier activity."""

    metric: ExperimentMetric
    rate: float  # overall, before the experiment
    prior: float  # the weight of that rate, in units of its denominator
    weights: Floats

    def of(self, viewers: ExperimentViewers) -> Floats:
        """The expected surplus of each viewer; shape (viewers,), with a mean of about zero."""
        expected: Floats = _columns(self.metric, viewers.before, self.rate, self.prior) @ self.weights
        return expected


def outcomes(metric: ExperimentMetric, activity: Activity) -> Outcomes:
    """The numerators and denominators of the metric."""
    match metric:
        case "watches-per-page":
            return Outcomes(values=activity.watches, per=activity.pages)
        case "watch-rate":
            return Outcomes(values=activity.watches, per=activity.shown)
        case "watch-minutes":
            return Outcomes(values=activity.minutes, per=np.ones(len(activity.minutes)))


def expectation(metric: ExperimentMetric, rehearsal: ExperimentViewers) -> Expectation | None:
    """Fit to viewers of the weeks before, who all had the same treatment; `None` if they are too few.

    Args:
        metric: the outcome.
        rehearsal: viewers of a simulated experiment without a treatment; each has a page in the window.
    """
    before = rehearsal.before
    if len(rehearsal) < _FEWEST_TO_FIT or not before.pages.any():
        return None
    past = _past(metric, before)
    rate, prior = past.metric, _PRIOR_PAGES * float(past.per.sum() / before.pages.sum())
    found, columns = outcomes(metric, rehearsal.window), _columns(metric, before, rate, prior)
    weights, *_ = np.linalg.lstsq(columns, found.values - found.metric * found.per, rcond=None)
    return Expectation(metric=metric, rate=rate, prior=prior, weights=weights.astype(np.float64))


def _columns(metric: ExperimentMetric, before: Activity, rate: float, prior: float) -> Floats:
    """The regression's columns: one, the viewer's earlier rate, and the logarithm of the earlier pages."""
    past = _past(metric, before)
    own = (past.values + prior * rate) / (past.per + prior)
    return np.column_stack([np.ones(len(own)), own, np.log1p(before.pages)])


def _past(metric: ExperimentMetric, before: Activity) -> Outcomes:
    """The numerators and denominators before the experiment; minutes are per page, because there was no window."""
    found = outcomes(metric, before)
    return Outcomes(values=found.values, per=before.pages) if metric == "watch-minutes" else found
