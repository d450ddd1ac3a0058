"""The fraud backtest: the handbook's protocol, nothing from the future, the same answer twice."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from datetime import UTC, datetime

import numpy as np
import pytest

from reference_system.errors import TrainingError
from reference_system.event_time import MICROS_PER_DAY as DAY
from reference_system.event_time import micros
from reference_system.training.fraud.backtest import (
    NEVER_REPORTED,
    Backtest,
    BacktestPlan,
    DatasetPayments,
    LeftOutPayments,
    known_compromised,
)
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.prequential import Protocol

START = micros(datetime(2025, 3, 1, tzinfo=UTC))


def payments(*, days=35, a_day=120, seed=1):
    """Payments whose first input shows the fraud; reported a week later."""
    rng = np.random.default_rng(seed)
    count = days * a_day
    inputs = rng.normal(size=(count, 3)).astype(np.float32)
    frauds = rng.random(count) < 1.0 / (1.0 + np.exp(4.0 - 2.5 * inputs[:, 0]))
    times = START + np.arange(count) * (DAY // a_day)
    return DatasetPayments(
        inputs=inputs,
        reported=np.where(frauds, times + 7 * DAY, NEVER_REPORTED),
        withdrawn=np.full(count, NEVER_REPORTED),
        cards=rng.integers(0, 400, count),
        times=times,
    )


def plan(*, start_day=14, folds=1, drop_known=False, names=("logistic_regression",), train_days=7):
    protocol = Protocol(train_days=train_days, delay_days=7, test_days=7, folds=folds)
    return BacktestPlan(train_start=START + start_day * DAY, protocol=protocol, drop_known=drop_known, names=names)


def run(data, of):
    return list(Backtest(payments=data, plan=of, seed=1, say=lambda _: None).run())


def rows(*days_cards_labels):
    days, cards, labels = (np.array(column) for column in zip(*days_cards_labels, strict=True))
    return LabelledRows(
        inputs=np.zeros((len(days), 1), np.float32),
        labels=labels.astype(float),
        groups=cards,
        times=(days * DAY).astype(np.int64),
    )


def test_cards_leave_the_test_on_the_day_their_fraud_is_known():
    # Training is days 0 to 6, the delay days 7 to 13, the test days 14 to 20.
    before = rows((3, 1, 1), (7, 2, 1), (8, 3, 1), (9, 4, 0), (15, 5, 1))
    test = rows((14, 1, 0), (14, 2, 0), (15, 2, 1), (15, 3, 0), (16, 3, 0), (20, 4, 1), (20, 5, 1), (20, 9, 0))
    # Card 1 in training; card 2 from day 15 on, which is more than 7 days after day 7; card 3 from day 16 on; card 4
    # never paid a fraud before, card 5's is too young.
    expected = [True, False, True, False, True, False, False, False]
    assert known_compromised(before, test, delay_days=7).tolist() == expected


def test_the_handbooks_growing_set_of_known_cards_gives_the_same_test():
    data = payments()
    (outcome,) = run(data, plan(drop_known=True))
    fraud, day = data.reported != NEVER_REPORTED, (data.times - START) // DAY
    known = set(data.cards[fraud & (day >= 14) & (day < 21)].tolist())
    wanted = []
    for number in range(7):
        known |= set(data.cards[fraud & (day == 14 + 7 + number - 1)].tolist())
        today = np.flatnonzero(day == 14 + 7 + 7 + number)
        wanted += [place for place in today.tolist() if data.cards[place] not in known]
    assert outcome.places.tolist() == wanted
    assert 0 < len(wanted) < 7 * 120


def test_the_future_has_no_part_in_choosing_and_learning():
    data = payments()
    (before,) = run(data, plan())
    # Whatever comes after the test began, and what was not reported by then, is told otherwise.
    begin = before.fold.test_start
    after = data.times >= begin
    inputs, reported = data.inputs.copy(), data.reported.copy()
    inputs[after] += 1.0
    reported[after] = NEVER_REPORTED
    reported[np.flatnonzero(after)[::3]] = begin + 20 * DAY
    reported[(data.times < begin) & (data.reported > begin)] = NEVER_REPORTED
    (changed,) = run(replace(data, inputs=inputs, reported=reported), plan())
    assert changed.fitted.to_onnx(3) == before.fitted.to_onnx(3)
    assert changed.reason == before.reason


def test_a_dispute_counts_from_its_report_until_it_is_taken_back():
    data = payments(days=20, a_day=1)
    data = replace(data, reported=data.times + 2 * DAY, withdrawn=data.times + 9 * DAY)
    found = data.between(START, START + 20 * DAY, known=START + 10 * DAY)
    assert found.labels.tolist() == [0.0] * 2 + [1.0] * 7 + [0.0] * 11
    assert not data.between(START, START + 20 * DAY, known=NEVER_REPORTED - 1).labels.any()


def test_each_fold_moves_on_by_a_test_window_and_scores_its_payments_once():
    first, second = run(payments(days=42), plan(folds=2))
    assert second.fold.train_start - first.fold.train_start == 7 * DAY
    assert second.fold.test_start == first.fold.test_end
    assert not set(first.places) & set(second.places)


def test_the_same_data_gives_the_same_scores():
    one, other = (run(payments(), plan(drop_known=True))[0] for _ in range(2))
    np.testing.assert_array_equal(one.scores, other.scores)


def test_a_second_fold_finds_the_same_as_a_backtest_that_begins_there():
    both = run(payments(days=42), plan(folds=2))
    (alone,) = run(payments(days=42), plan(start_day=21))
    np.testing.assert_array_equal(both[1].scores, alone.scores)


def test_at_the_beginning_of_the_data_the_folds_are_cut_short_and_it_is_said():
    (outcome,) = run(payments(), plan(start_day=0))
    assert "folds without a label delay" in outcome.reason
    assert set(outcome.metrics) == {
        "roc_auc",
        "average_precision",
        "card_precision@100",
        "expected_calibration_error",
        "brier",
    }


@pytest.mark.parametrize(("start_day", "folds"), [(15, 1), (8, 2), (-1, 1)])
def test_folds_beyond_the_data_are_refused_with_the_possible_starts(start_day, folds):
    latest = "2025-03-15" if folds == 1 else "2025-03-08"
    with pytest.raises(TrainingError, match=f"--train-start can be 2025-03-01 to {latest}"):
        run(payments(), plan(start_day=start_day, folds=folds))


def test_more_days_than_there_are_is_refused():
    with pytest.raises(TrainingError, match="such folds need 114 days of payments, and there are 35"):
        run(payments(), plan(train_days=100))


def test_neither_ids_nor_the_order_of_rows_change_a_figure():
    data = payments(a_day=60)
    # Three payments in a moment, as in files whose times are whole seconds.
    times = data.times[::3].repeat(3)[: len(data)]
    rng = np.random.default_rng(4)
    order, names = rng.permutation(len(data)), rng.permutation(400)
    of = plan(names=("random_forest",), drop_known=True)
    one, _ = DatasetPayments.in_order(
        inputs=data.inputs, reported=data.reported, withdrawn=data.withdrawn, cards=data.cards, times=times
    )
    other, places = DatasetPayments.in_order(
        inputs=data.inputs[order],
        reported=data.reported[order],
        withdrawn=data.withdrawn[order],
        cards=names[data.cards][order],
        times=times[order],
    )
    before, after = run(one, of)[0], run(other, of)[0]
    assert after.metrics == before.metrics
    np.testing.assert_array_equal(after.scores, before.scores)
    np.testing.assert_array_equal(data.inputs[order][places], one.inputs)


def quiet_in(data, first_day, last_day):
    """The same payments without frauds on some days."""
    day = (data.times - START) // DAY
    reported = np.where((day >= first_day) & (day <= last_day), NEVER_REPORTED, data.reported)
    return replace(data, reported=reported)


@pytest.mark.parametrize(
    ("first_day", "last_day", "window"),
    [
        (28, 34, r"test window from 2025-03-29 .* 0 positive"),
        (14, 20, r"training window from 2025-03-15 .* 0 positive"),
    ],
)
def test_a_fold_without_frauds_says_why_and_the_others_are_kept(first_day, last_day, window):
    data = payments(days=49)
    whole, found = (
        run(data, plan(start_day=7, folds=3)),
        run(quiet_in(data, first_day, last_day), plan(start_day=7, folds=3)),
    )
    kinds = [type(each).__name__ for each in found]
    assert kinds.count("LeftOutPayments") == 1
    (left_out,) = (each for each in found if isinstance(each, LeftOutPayments))
    assert re.search(window, left_out.reason)
    assert left_out.fold == whole[kinds.index("LeftOutPayments")].fold
    # The first fold learned and was tested before the quiet week.
    np.testing.assert_array_equal(found[0].places, whole[0].places)
    assert [each.fold for each in found] == [each.fold for each in whole]


@pytest.mark.parametrize("drop_known", [False, True])
def test_a_week_without_payments_is_left_out_as_well(drop_known):
    data = payments(days=49)
    day = (data.times - START) // DAY
    there = (day < 28) | (day > 34)
    some = DatasetPayments(**{field.name: getattr(data, field.name)[there] for field in fields(data)})
    found = run(some, plan(start_day=7, folds=3, drop_known=drop_known))
    assert [each.reason.split(";")[0] for each in found if isinstance(each, LeftOutPayments)] == [
        "the test window from 2025-03-29 00:00 to 2025-04-05 00:00 has no rows"
    ]


def test_a_window_with_one_outcome_is_refused_before_any_work():
    data = payments()
    nobody = replace(data, reported=np.full(len(data), NEVER_REPORTED))
    with pytest.raises(TrainingError, match=r"training window .* 0 positive labels"):
        run(nobody, plan())


def test_an_unknown_model_is_refused_with_the_names():
    with pytest.raises(TrainingError, match="logistic_regression, random_forest, extra_trees, gradient_boosting"):
        run(payments(), plan(names=("oracle",)))
