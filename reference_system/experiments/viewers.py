"""Viewers: what each of them did, before an experiment and in it; and what that is on a metric.

In: counts by viewer. Out: the two sums of a metric, and what was to be expected of the viewer from before (CUPED).
Invariant: the expectation is a fixed function of what a viewer did before the experiment, fitted on weeks before it.
So subtracting it changes no difference between the arms but noise, and viewers stay independent of one another.

Source: A. Deng, Y. Xu, R. Kohavi, T. Walker, Improving the sensitivity of online controlled experiments by utilizing
pre-experiment data, WSDM 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.experiments.definition import ExperimentMetric

# Viewers with few pages are drawn towards everybody's rate, as if they had seen so many more at that rate.
_PRIOR_PAGES = 5.0
# From fewer viewers an expectation would be noise.
_FEWEST_TO_FIT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What viewers did in a span of time; shapes (viewers,)."""

    pages: Floats
    shown: Floats  # videos on these pages
    watches: Floats  # of at least half of a video
    minutes: Floats

    def take(self, rows: NDArray[np.generic]) -> Activity:
        """Some of the viewers: a mask, or indices."""
        return Activity(
            pages=self.pages[rows], shown=self.shown[rows], watches=self.watches[rows], minutes=self.minutes[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentViewers:
    """Viewers by the moment from which they count: in the window after it, and in the weeks before."""

    first: Micros
    window: Activity
    before: Activity

    def __len__(self) -> int:
        """How many."""
        return len(self.first)

    def take(self, rows: NDArray[np.generic]) -> ExperimentViewers:
        """Some of them: a mask, or indices."""
        return ExperimentViewers(first=self.first[rows], window=self.window.take(rows), before=self.before.take(rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """Viewers of an experiment in the order of their first exposures; shapes (viewers,)."""

    ids: list[str]
    treated: NDArray[np.bool_]
    first: Micros
    exposures: Floats
    other_version: Floats  # of the exposures, answered by another version than the arm's


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """A metric is the sum of `values` by the sum of `per`, over any viewers; shapes (viewers,)."""

    values: Floats
    per: Floats

    @property
    def metric(self) -> float:
        """Over all of them."""
        return float(self.values.sum() / self.per.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """By how much a viewer's value is expected to lie above everybody's rate, from what the viewer did before."""

    metric: ExperimentMetric
    rate: float  # everybody's, before
    prior: float  # how much of that rate's denominator it counts for
    weights: Floats

    def of(self, viewers: ExperimentViewers) -> Floats:
        """The expected surplus of each; shape (viewers,), about zero in the mean."""
        expected: Floats = _columns(self.metric, viewers.before, self.rate, self.prior) @ self.weights
        return expected


def outcomes(metric: ExperimentMetric, activity: Activity) -> Outcomes:
    """What the metric is made of."""
    match metric:
        case "watches-per-page":
            return Outcomes(values=activity.watches, per=activity.pages)
        case "watch-rate":
            return Outcomes(values=activity.watches, per=activity.shown)
        case "watch-minutes":
            return Outcomes(values=activity.minutes, per=np.ones(len(activity.minutes)))


def expectation(metric: ExperimentMetric, rehearsal: ExperimentViewers) -> Expectation | None:
    """Fit on viewers of the weeks before, who were treated alike; `None` where they are too few to tell.

    Args:
        metric: which outcome.
        rehearsal: viewers of an experiment that was none; each has a page in the window.
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
    """One, the rate at which the viewer watched before, and how much of the viewer was seen."""
    past = _past(metric, before)
    own = (past.values + prior * rate) / (past.per + prior)
    return np.column_stack([np.ones(len(own)), own, np.log1p(before.pages)])


def _past(metric: ExperimentMetric, before: Activity) -> Outcomes:
    """What the metric was made of before; minutes by page, for nobody had a window then."""
    found = outcomes(metric, before)
    return Outcomes(values=found.values, per=before.pages) if metric == "watch-minutes" else found
