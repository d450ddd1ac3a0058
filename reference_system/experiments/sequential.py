"""A test that is valid at any time: a confidence sequence for a difference.

A t-test keeps its rate of false alarms at one size, chosen in advance. Read repeatedly, it is wrong sooner or later
with certainty. A confidence sequence covers the true value at all sizes simultaneously with probability 1 - alpha, so
stopping when it excludes zero is wrong with probability at most alpha. Here it is the two-sided normal mixture
boundary over the standard error of the difference.

A metric such as watches per page is a ratio of two sums over viewers, and the viewers are independent: its variance is
that of each viewer's surplus, value - metric * denominator (the delta method).

In: outcomes in the order in which they became known, with their arms. Out: effect and half-width after each outcome.
Invariant: the width depends on the data only through the counts, means and variances so far.

Sources: H. Robbins, Statistical methods related to the law of the iterated logarithm, Annals of Mathematical
Statistics, 1970; R. Johari, P. Koomen, L. Pekelis, D. Walsh, Peeking at A/B tests, KDD 2017; S. Howard, A. Ramdas,
J. McAuliffe, J. Sekhon, Time-uniform, nonparametric, nonasymptotic confidence sequences, Annals of Statistics, 2021;
I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy, A. Ramdas, Time-uniform central limit theory and asymptotic
confidence sequences, 2021, for data that are not normal; A. Deng, U. Knoblich, J. Lu, Applying the delta method in
metric analytics, KDD 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats

ALPHA = 0.05
# The size at which the band is narrowest: the viewers of five or six days in the default world. Elsewhere it is a
# little wider.
NARROWEST_AT = 1_500
# An asymptotic interval is not valid with few outcomes: there is none before both arms have this many.
FEWEST = 50

_LEVEL = -2.0 * log(ALPHA)
_MIXTURE = NARROWEST_AT / (_LEVEL + log(_LEVEL) + 1.0)
_ROUNDING = 1e-12
_ONE_LOOK = NormalDist().inv_cdf(1.0 - ALPHA / 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The effect after each outcome; the last axis is their order. Before `FEWEST` a half-width is infinite."""

    effect: Floats
    half_width: Floats
    one_look: Floats  # the half-width of a t-test, which is valid at one size chosen in advance

    def first_sure(self) -> NDArray[np.int64]:
        """The index at which the interval first excluded zero; -1 if never. Shape: without the last axis."""
        return first_true(np.abs(self.effect) > self.half_width)


def course(values: Floats, per: Floats, treated: NDArray[np.bool_]) -> Course:
    """The difference of two metrics, treatment less control, after each outcome.

    Args:
        values: shape (..., n), in the order in which they became known.
        per: the metric is the sum of `values` divided by the sum of these; the same shape, positive.
        treated: which outcomes belong to the treatment; the same shape.
    """
    size, metric, variance = _running(values, per, treated)
    others, other_metric, other_variance = _running(values, per, ~treated)
    enough = np.minimum(size, others) >= FEWEST
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.where(enough, variance / size + other_variance / others, np.inf)
        # The number of all outcomes for equal arms; less if one arm is small.
        weight = np.where(enough, 4.0 * size * others / (size + others), 1.0)
        # Without variance the interval is a point, which a rounding error must not exclude.
        differ = np.abs(metric - other_metric) > _ROUNDING * (np.abs(metric) + np.abs(other_metric))
    return Course(
        effect=np.where(enough & differ, metric - other_metric, 0.0),
        half_width=_half_width(error, weight),
        one_look=_ONE_LOOK * np.sqrt(error),
    )


def outcomes_needed(effect: float, half_width: float, size: int) -> int | None:
    """How many more outcomes the interval needs to exclude zero at the current effect; `None` if beyond 1,000 fold.

    Args:
        effect: the current difference.
        half_width: of the current interval, finite.
        size: the current number of outcomes.
    """
    folds = np.geomspace(1.0, 1_000.0, 4_000)
    widths = half_width * _half_width(1.0 / folds, size * folds) / _half_width(np.ones(1), np.array([float(size)]))
    (reached,) = np.nonzero(widths < abs(effect))
    return int(np.ceil(size * (folds[reached[0]] - 1.0))) if len(reached) else None


def first_true(found: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The first true index along the last axis; -1 if there is none."""
    return np.where(found.any(axis=-1), found.argmax(axis=-1), -1).astype(np.int64)


def _half_width(error: Floats, weight: Floats) -> Floats:
    """The boundary; `error` is the squared standard error, `weight` the size on the mixture's scale."""
    width: Floats = np.sqrt(error * (1.0 + _MIXTURE / weight) * (np.log1p(weight / _MIXTURE) + _LEVEL))
    return width


def _running(values: Floats, per: Floats, chosen: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """Count, metric and variance of one viewer's contribution, over the chosen outcomes so far."""
    value, unit = np.where(chosen, values, 0.0), np.where(chosen, per, 0.0)
    size = np.cumsum(chosen, axis=-1).astype(np.float64)
    units = np.cumsum(unit, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        metric = np.cumsum(value, axis=-1) / units
        squares = np.cumsum(value * value, axis=-1) + metric * (
            metric * np.cumsum(unit * unit, axis=-1) - 2.0 * np.cumsum(value * unit, axis=-1)
        )
        # A variance within the rounding error counts as zero.
        squares = np.where(squares > _ROUNDING * np.cumsum(value * value, axis=-1), squares, 0.0)
        variance = squares / (size - 1.0) * (size / units) ** 2
    return size, metric, variance
