from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference_system.event_time import MICROS_PER_DAY
from reference_system.monitoring.fraud.champion_comparison import (
    AnsweredPayments,
    Rescored,
    early_change,
    missed,
    payment_days_by_version,
)
from reference_system.monitoring.fraud.early_outcomes import NOT_REPORTED
from reference_system.monitoring.fraud.estimated_performance import expected_outcomes
from reference_system.monitoring.sklearn_metrics import average_precision

FIRST = 20_000
A_DAY = 200
WITHDRAWN_AFTER = 6 * MICROS_PER_DAY + 1


def answered(days: int, *, frauds: int = 30) -> AnsweredPayments:
    """So many payments a day, the first ones of each day frauds that are reported after half a day."""
    times = (FIRST * MICROS_PER_DAY + np.arange(days * A_DAY) * (MICROS_PER_DAY // A_DAY)).astype(np.int64)
    is_fraud = np.arange(days * A_DAY) % A_DAY < frauds
    return AnsweredPayments(
        times=times,
        reported=np.where(is_fraud, times + MICROS_PER_DAY // 2, NOT_REPORTED),
        withdrawn=np.full(len(times), NOT_REPORTED),
        versions=np.full(len(times), "1"),
        scores=np.full(len(times), 0.5),
        inputs=np.zeros((len(times), 1)),
    )


def knowing(rows: AnsweredPayments, *, until_day: int | None = None) -> Rescored:
    """A version that knows every fraud, or only those of the days before `until_day`."""
    known = rows.reported != NOT_REPORTED
    if until_day is not None:
        known &= rows.times < (FIRST + until_day) * MICROS_PER_DAY
    blind = np.random.default_rng(3).random(len(rows.times)) * 0.4
    return Rescored(scores=np.where(known, 0.9, blind), review=0.8)


def test_versions_meet_the_same_payments_of_a_day():
    rows = answered(10)
    now = (FIRST + 10) * MICROS_PER_DAY
    versions = {"1": knowing(rows, until_day=5), "2": knowing(rows)}
    days = payment_days_by_version(rows, versions, "2", as_of=now, metric=average_precision)
    assert [day.day for day in days] == list(range(FIRST, FIRST + 10))
    assert [day.mature for day in days] == [True] * 3 + [False] * 7
    before, after = days[4], days[5]
    assert before.average_precision == {"1": 1.0, "2": 1.0}
    assert after.average_precision["2"] == 1.0
    assert after.average_precision["1"] < 0.4
    assert (after.caught["1"], after.caught["2"]) == (0.0, 1.0)
    assert after.answered_by == ("1",)


def test_what_was_taken_back_is_no_fraud_from_then_on():
    rows = answered(10)
    now = (FIRST + 10) * MICROS_PER_DAY
    taken_back = np.where(np.arange(len(rows.times)) % A_DAY < 10, rows.times + WITHDRAWN_AFTER, NOT_REPORTED)
    fewer = replace(rows, withdrawn=taken_back)
    days = payment_days_by_version(fewer, {"1": knowing(rows)}, "1", as_of=now, metric=average_precision)
    # Disputes of the first four days are older than that; the others stand.
    assert [day.frauds for day in days] == [20] * 4 + [30] * 6
    assert fewer.frauds_at(int(rows.times[0]) + WITHDRAWN_AFTER - 1)[0]
    assert not fewer.frauds_at(int(rows.times[0]) + WITHDRAWN_AFTER)[0]
    blind = replace(knowing(rows, until_day=0), scores=np.full(len(rows.times), 0.1))
    taught = replace(blind, scores=np.where(rows.reported == NOT_REPORTED, 0.9, 0.1))
    assert missed(rows, taught, as_of=now) == 3 * 30
    assert missed(replace(rows, withdrawn=rows.times + MICROS_PER_DAY + 1), taught, as_of=now) == 30


def test_a_day_with_few_frauds_has_no_average_precision():
    rows = answered(3, frauds=9)
    now = (FIRST + 3) * MICROS_PER_DAY
    (first, *_) = payment_days_by_version(rows, {"1": knowing(rows)}, "1", as_of=now, metric=average_precision)
    assert (first.frauds, first.average_precision, first.answered) == (9, {}, None)
    assert first.estimate is not None


def test_a_version_that_learned_from_a_day_is_named():
    rows = answered(4)
    learned = Rescored(scores=knowing(rows).scores, review=0.8, learned_until=(FIRST + 2) * MICROS_PER_DAY)
    days = payment_days_by_version(rows, {"1": learned}, "1", as_of=rows.times[-1] + 1, metric=average_precision)
    assert [day.learned_by for day in days] == [("1",), ("1",), (), ()]


def test_frauds_that_look_harmless_are_missed_and_the_riskiest_tenth_is_not():
    rows = answered(10, frauds=15)
    now = (FIRST + 10) * MICROS_PER_DAY
    assert missed(rows, knowing(rows), as_of=now) == 0
    assert missed(rows, knowing(rows, until_day=7), as_of=now) > 30


def test_a_champion_that_fails_on_the_youngest_payments_has_fallen():
    rows = answered(16)
    now = (FIRST + 16) * MICROS_PER_DAY
    steady = early_change(rows, knowing(rows), as_of=now, metric=average_precision)
    assert steady is not None
    assert not steady.fallen
    fallen = early_change(rows, knowing(rows, until_day=12), as_of=now, metric=average_precision)
    assert fallen is not None
    assert fallen.fallen
    assert fallen.newest < fallen.earlier


def test_after_a_few_days_there_is_nothing_to_compare_the_youngest_with():
    rows = answered(8)
    assert early_change(rows, knowing(rows), as_of=(FIRST + 8) * MICROS_PER_DAY, metric=average_precision) is None


def test_of_calibrated_scores_the_estimate_is_what_the_labels_show():
    rng = np.random.default_rng(11)
    scores = rng.beta(0.3, 8.0, 40_000)
    labels = (rng.random(len(scores)) < scores).astype(np.float64)
    found = expected_outcomes(scores, review=0.2)
    assert found is not None
    assert found.frauds == pytest.approx(labels.sum(), rel=0.05)
    assert found.average_precision == pytest.approx(average_precision(labels, scores), abs=0.02)
    assert found.precision == pytest.approx(labels[scores >= 0.2].mean(), abs=0.03)
    assert found.recall == pytest.approx(labels[scores >= 0.2].sum() / labels.sum(), abs=0.03)


def test_without_scores_nothing_is_estimated():
    assert expected_outcomes(np.array([np.nan, np.nan]), review=0.5) is None
    assert expected_outcomes(np.zeros(3), review=0.5) is None
