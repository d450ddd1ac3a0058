"""Same payments: every champion on the same days, whoever answered then.

In: answered payments with the inputs as they were served, scorers by version. Out: for each day what each version is
worth on it, on labels that are mature or reported so far; and whether the youngest days are worse for the champion.
Invariant: versions of one day meet the same payments and the same labels, so their difference is theirs alone.

A day whose labels are not mature is provisional: frauds that nobody has reported yet count as genuine for all
versions alike. So it is compared with other versions on the same day, or with earlier days at the same age.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY
from reference_system.monitoring.fraud.early_outcomes import EARLY_WINDOW_DAYS
from reference_system.monitoring.fraud.estimated_performance import ExpectedOutcomes, expected_outcomes
from reference_system.monitoring.performance import MIN_POSITIVES, Change, ScoreMetric
from reference_system.use_cases.fraud.labels import LABEL_DELAY_DAYS

# Between one and four days old: younger payments have no reports, older ones are the next look's past.
_YOUNGEST, _OLDEST = 1, 4
_MIN_EARLIER = 4
_FAR = 3.0
_MATERIAL = 0.15  # of the earlier mean
# Frauds are one payment in a hundred, in an attack one in twenty.
RISKIEST = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredPayments:
    """Answered payments by time; shapes (n,), inputs (n, width); `scores` are as answered, NaN from a rule.

    A payment is a fraud from `reported` on and before `withdrawn`; `NOT_REPORTED` stands for never.
    """

    times: Micros
    reported: Micros
    withdrawn: Micros
    versions: NDArray[np.str_]
    scores: Floats
    inputs: Floats

    def frauds_at(self, moment: int) -> NDArray[np.bool_]:
        """Which payments stood reported at a moment; shape (n,)."""
        stood: NDArray[np.bool_] = (self.reported <= moment) & (self.withdrawn > moment)
        return stood


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescored:
    """The scores of one version for all of the payments, shape (n,), and its threshold of review.

    `learned_until` is the end of the event times that it learned from, microseconds.
    """

    scores: Floats
    review: float | None
    learned_until: int = 0


class DayOfPayments(msgspec.Struct, frozen=True, kw_only=True):
    """One event day (since 1970). The dicts are by model version; a figure that the labels cannot carry is absent.

    `answered` is the average precision of the scores that were answered, whichever version gave them; `caught` the
    share of the frauds that the version would have had reviewed or blocked. `learned_by` are the versions that
    learned from the day: there they are better than they will be.
    """

    day: int
    mature: bool
    payments: int
    frauds: int
    answered_by: tuple[str, ...]
    learned_by: tuple[str, ...] = ()
    answered: float | None = None
    average_precision: dict[str, float] = {}
    caught: dict[str, float] = {}
    estimate: ExpectedOutcomes | None = None


def payment_days_by_version(
    answered: AnsweredPayments,
    versions: Mapping[str, Rescored],
    champion: str | None,
    *,
    as_of: int,
    metric: ScoreMetric,
) -> tuple[DayOfPayments, ...]:
    """Every day that has answers, the oldest first; the estimate is the champion's."""
    days = answered.times // MICROS_PER_DAY
    return tuple(
        _day(answered, versions, champion, day=int(day), rows=np.flatnonzero(days == day), as_of=as_of, metric=metric)
        for day in np.unique(days)
    )


def missed(answered: AnsweredPayments, champion: Rescored, *, as_of: int) -> int:
    """The frauds reported among the payments of the last `EARLY_WINDOW_DAYS` that the champion takes for harmless.

    They are not among its riskiest tenth of those payments. Thresholds do not matter: they follow from the budget
    of reviews, and in an attack no budget is large enough for all.
    """
    young = answered.times >= as_of - EARLY_WINDOW_DAYS * MICROS_PER_DAY
    scores = champion.scores[young]
    known = scores[~np.isnan(scores)]
    if not len(known):
        return 0
    harmless = scores < np.quantile(known, 1.0 - RISKIEST)
    return int((harmless & answered.frauds_at(as_of)[young]).sum())


def early_change(answered: AnsweredPayments, champion: Rescored, *, as_of: int, metric: ScoreMetric) -> Change | None:
    """The champion on payments a few days old, against earlier ones at their age; `None` if there are too few."""
    found: list[float | None] = []
    earliest = int(answered.times[0]) if len(answered.times) else as_of
    moment = as_of
    while moment - _OLDEST * MICROS_PER_DAY >= earliest:
        found.append(_at_age(answered, champion, moment, metric))
        moment -= MICROS_PER_DAY
    newest, earlier = found[0] if found else None, [value for value in found[_OLDEST:] if value is not None]
    if newest is None or len(earlier) < _MIN_EARLIER:
        return None
    mean, spread = float(np.mean(earlier)), float(np.std(earlier, ddof=1))
    far = max(_FAR * spread * (1.0 + _OLDEST / len(earlier)) ** 0.5, _MATERIAL * mean)
    return Change(metric="early_average_precision", newest=newest, earlier=mean, low=mean - far, high=mean + far)


def _at_age(answered: AnsweredPayments, champion: Rescored, moment: int, metric: ScoreMetric) -> float | None:
    """The metric as it could have been measured at `moment`."""
    age = moment - answered.times
    rows = (age > _YOUNGEST * MICROS_PER_DAY) & (age <= _OLDEST * MICROS_PER_DAY) & ~np.isnan(champion.scores)
    labels = answered.frauds_at(moment)[rows].astype(np.float64)
    return metric(labels, champion.scores[rows]) if labels.sum() >= MIN_POSITIVES else None


def _day(  # noqa: PLR0913 - one argument for each thing that a day is judged by
    answered: AnsweredPayments,
    versions: Mapping[str, Rescored],
    champion: str | None,
    *,
    day: int,
    rows: NDArray[np.intp],
    as_of: int,
    metric: ScoreMetric,
) -> DayOfPayments:
    labels = answered.frauds_at(as_of)[rows].astype(np.float64)
    frauds = int(labels.sum())
    mine = versions.get(champion) if champion is not None else None
    known = DayOfPayments(
        day=day,
        mature=(day + 1 + LABEL_DELAY_DAYS) * MICROS_PER_DAY <= as_of,
        payments=len(rows),
        frauds=frauds,
        answered_by=tuple(np.unique(answered.versions[rows]).tolist()),
        learned_by=tuple(name for name, one in versions.items() if day * MICROS_PER_DAY < one.learned_until),
        estimate=expected_outcomes(mine.scores[rows], review=mine.review) if mine is not None else None,
    )
    if frauds < MIN_POSITIVES:
        return known
    scored = ~np.isnan(answered.scores[rows])
    worth = {name: metric(labels, one.scores[rows]) for name, one in versions.items()}
    return msgspec.structs.replace(
        known,
        answered=metric(labels[scored], answered.scores[rows][scored]),
        average_precision={name: value for name, value in worth.items() if value is not None},
        caught={
            name: float((one.scores[rows] >= one.review)[labels == 1].mean())
            for name, one in versions.items()
            if one.review is not None
        },
    )
