"""Analysis: the result of an experiment so far.

In: the exposed viewers, their activity and its expectation. Out: a report with the effect over time and the result.
Invariant: a viewer counts once, when the window after the first exposure has ended; so an outcome never changes, and a
later report continues the course of an earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.experiments import wording
from reference_system.experiments.definition import WINDOW, Experiment
from reference_system.experiments.report import ArmResult, Effect, EffectPoint, ExperimentReport, SampleRatio
from reference_system.experiments.sample_ratio import sample_ratio
from reference_system.experiments.sequential import Course, course, outcomes_needed
from reference_system.experiments.viewers import Expectation, ExperimentViewers, Exposed, Outcomes, outcomes

_WINDOW = WINDOW // timedelta(microseconds=1)
_MOST_POINTS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Analysed:
    """The viewers whose window has ended with a page in it, in the order of its end."""

    treated: NDArray[np.bool_]
    ended: Micros
    outcomes: Outcomes
    surplus: Floats | None  # the expected surplus of each over the overall rate
    course: Course

    def metric(self, *, treated: bool) -> float | None:
        """An arm's metric, without adjustment."""
        rows = self.treated == treated
        return float(self.outcomes.values[rows].sum() / self.outcomes.per[rows].sum()) if rows.any() else None


def analyse(
    experiment: Experiment,
    exposed: Exposed,
    viewers: ExperimentViewers,
    expected: Expectation | None,
    *,
    as_of: datetime,
) -> ExperimentReport:
    """The report as of one time.

    Args:
        experiment: its definition.
        exposed: every viewer who was exposed before `as_of`.
        viewers: the activity of the same viewers, in the same order.
        expected: from the weeks before; `None` for no adjustment.
        as_of: the time up to which the lake is complete, or at which the experiment stopped.
    """
    over, paged = exposed.first + _WINDOW <= micros(as_of), viewers.window.pages > 0
    rows = over & paged
    seen = _analysed(experiment, exposed.treated[rows], viewers.take(rows), expected)
    report = ExperimentReport(
        as_of=as_of,
        control=_arm(exposed, seen, version=experiment.control, treated=False),
        treatment=_arm(exposed, seen, version=experiment.treatment, treated=True),
        waiting=int((~over).sum()),
        without_page=int((over & ~paged).sum()),
        effect=_effect(seen, as_of),
        sample_ratio=_sample_ratio(exposed.treated, seen.treated, experiment.share),
        variance_reduction=_variance_reduction(seen),
        usable=True,
        verdict="",
        notes=(),
        course=_points(seen),
    )
    return wording.pronounced(experiment, report)


def _analysed(
    experiment: Experiment, treated: NDArray[np.bool_], viewers: ExperimentViewers, expected: Expectation | None
) -> _Analysed:
    found = outcomes(experiment.metric, viewers.window)
    surplus = None if expected is None else expected.of(viewers)
    values = found.values if surplus is None else found.values - surplus
    return _Analysed(
        treated=treated,
        ended=viewers.first + _WINDOW,
        outcomes=found,
        surplus=surplus,
        course=course(values, found.per, treated),
    )


def _arm(exposed: Exposed, seen: _Analysed, *, version: str, treated: bool) -> ArmResult:
    rows = exposed.treated == treated
    return ArmResult(
        version=version,
        viewers=int(rows.sum()),
        exposures=int(exposed.exposures[rows].sum()),
        other_version=int(exposed.other_version[rows].sum()),
        analysed=int((seen.treated == treated).sum()),
        metric=seen.metric(treated=treated),
    )


def _effect(seen: _Analysed, as_of: datetime) -> Effect | None:
    """The current effect, and since when it is sure; `None` before there is one, and without variance."""
    size = len(seen.treated)
    if not size or not np.isfinite(seen.course.half_width[-1]) or not seen.course.half_width[-1]:
        return None
    value, width = float(seen.course.effect[-1]), float(seen.course.half_width[-1])
    control, at = seen.metric(treated=False), int(seen.course.first_sure())
    needed = outcomes_needed(value, width, size) if at < 0 else None
    return Effect(
        value=value,
        low=value - width,
        high=value + width,
        relative=value / control if control else None,
        sure=None if at < 0 else "better" if seen.course.effect[at] > 0 else "worse",
        sure_since=None if at < 0 else moment_of(int(seen.ended[at])),
        viewers_needed=needed,
        decided_around=None if needed is None else _when(seen, needed, as_of),
    )


def _when(seen: _Analysed, needed: int, as_of: datetime) -> datetime | None:
    """When `needed` more viewers will have been analysed, at the rate of the last day."""
    lately = int((seen.ended > micros(as_of) - MICROS_PER_DAY).sum())
    return as_of + timedelta(days=needed / lately) if lately else None


def _sample_ratio(exposed: NDArray[np.bool_], analysed: NDArray[np.bool_], share: float) -> SampleRatio | None:
    """The check of all exposed viewers or of all analysed ones, whichever has the smaller p-value."""
    found = [sample_ratio(treated, share) for treated in (exposed, analysed) if len(treated)]
    return min(found, key=lambda each: each.p_value) if found else None


def _variance_reduction(seen: _Analysed) -> float | None:
    """The share of the variance within the arms that the expectation removed; negative if it added some."""
    if seen.surplus is None or not seen.course.half_width.size or not np.isfinite(seen.course.half_width[-1]):
        return None
    before, after = 0.0, 0.0
    for treated in (False, True):
        rows = seen.treated == treated
        values, per, surplus = seen.outcomes.values[rows], seen.outcomes.per[rows], seen.surplus[rows]
        before += float(np.var(values - values.sum() / per.sum() * per))
        after += float(np.var(values - surplus - (values - surplus).sum() / per.sum() * per))
    return 1.0 - after / before if before else None


def _points(seen: _Analysed) -> tuple[EffectPoint, ...]:
    """The course from the first interval on, thinned for plots."""
    (known,) = np.nonzero(np.isfinite(seen.course.half_width))
    if not len(known):
        return ()
    chosen = np.unique(np.linspace(known[0], known[-1], _MOST_POINTS).round().astype(np.int64))
    effect, width = seen.course.effect[chosen], seen.course.half_width[chosen]
    columns = (seen.ended[chosen], chosen + 1, effect, effect - width, effect + width)
    return tuple(
        EffectPoint(event_timestamp=moment_of(ended), viewers=viewers, effect=value, low=low, high=high)
        for ended, viewers, value, low, high in zip(*(column.tolist() for column in columns), strict=True)
    )
