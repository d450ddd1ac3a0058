"""Slices, reliability, importance, and rows as they were served."""

from __future__ import annotations

import numpy as np
import pytest
from small_lake import START, put

from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.training.evaluation.importance import permutation_importance
from reference_system.training.evaluation.reliability import expected_calibration_error
from reference_system.training.evaluation.training_serving_skew import paired, served_pairs
from reference_system.training.fraud.evaluation import PaymentEvaluator, payment_slices
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.temporal_split import Span
from reference_system.use_cases.fraud.features import INPUTS

AMOUNT, NIGHT = INPUTS.index("amount"), INPUTS.index("is_night")
KNOWN = INPUTS.index("terminal_fraud_rate_30d")
COUNT = INPUTS.index("customer_transaction_count_30d")


def rows(count=2_000, seed=1):
    """Large amounts at night are frauds, more or less."""
    rng = np.random.default_rng(seed)
    inputs = rng.random((count, len(INPUTS))).astype(np.float32)
    inputs[:, AMOUNT] = rng.lognormal(3.5, 1.0, count)
    inputs[:, NIGHT] = rng.random(count) < 0.3
    inputs[:, KNOWN] = np.where(rng.random(count) < 0.1, 0.5, 0.0)
    inputs[:, COUNT] = rng.integers(1, 40, count)
    chance = np.where((inputs[:, AMOUNT] > 60) & (inputs[:, NIGHT] > 0), 0.5, 0.01)
    return LabelledRows(
        inputs=inputs,
        labels=(rng.random(count) < chance).astype(float),
        groups=rng.integers(0, 50, count),
        times=micros(START) + np.arange(count) * (MICROS_PER_DAY // count),
    )


def chance_of(inputs):
    return np.where((inputs[:, AMOUNT] > 60) & (inputs[:, NIGHT] > 0), 0.5, 0.01) + inputs[:, AMOUNT] * 1e-9


def test_every_payment_is_in_one_amount_band_one_time_of_day_and_one_kind_of_terminal():
    slices = payment_slices(rows().inputs)
    for part in ("amount", "terminal"):
        assert (sum(found.astype(int) for name, found in slices.items() if name.startswith(part)) == 1).all()
    assert (slices["night"] ^ slices["day"]).all()
    assert (slices["new customers"] == (rows().inputs[:, COUNT] <= 5)).all()


def test_a_slice_is_worth_what_its_rows_alone_are_worth():
    found = rows()
    evaluation = PaymentEvaluator(rows=found).evaluate(chance_of)
    night = found.inputs[:, NIGHT] > 0
    alone = LabelledRows(
        inputs=found.inputs[night], labels=found.labels[night], groups=found.groups[night], times=found.times[night]
    )
    everyone = np.ones(PaymentEvaluator(rows=found).groups)
    one = evaluation.slices()["night"]
    assert one.worth(everyone) == PaymentEvaluator(rows=alone).evaluate(chance_of).metrics["average_precision"]
    assert one.positives == alone.labels.sum()


def test_a_probability_is_reliable_and_its_square_root_is_not():
    rng = np.random.default_rng(4)
    scores = rng.beta(0.5, 10.0, 50_000)
    labels = (rng.random(len(scores)) < scores).astype(float)
    assert expected_calibration_error(scores, labels) < 0.003
    assert expected_calibration_error(np.sqrt(scores), labels) > 0.1
    assert expected_calibration_error(np.full(100, 0.25), np.repeat([0.0, 1.0], [75, 25])) == pytest.approx(0.0)


def test_importance_names_the_inputs_that_decide_and_no_other():
    falls = permutation_importance(chance_of, rows(), seed=1)
    order = np.argsort(-falls)[:2].tolist()
    assert set(order) == {AMOUNT, NIGHT}
    others = np.delete(falls, order)
    assert np.abs(others).max() < 1e-6
    np.testing.assert_array_equal(falls, permutation_importance(chance_of, rows(), seed=1))


def logged(number, time, inputs):
    moment = moment_of(int(time))
    return {
        "event_timestamp": moment,
        "created_timestamp": moment,
        "prediction_id": f"p{number}",
        "use_case": "fraud",
        "request_id": f"r{number}",
        "entity_id": "c1",
        "model_version": "1",
        "items": [],
        "scores": [0.5],
        "decision": "approve",
        "reasons": [],
        "features": [float(value) for value in inputs],
        "entity_keys": ["c1", "t1"],
        "state_micros": [None, None],
        "catalogue_timestamp": None,
        "feature_age_seconds": None,
        "degraded": False,
        "latency_ms": 1.0,
    }


def test_served_rows_meet_the_same_rows_from_history(tmp_path):
    found = rows(50)
    served = found.inputs.copy()
    served[:, NIGHT] = 1.0
    answers = [logged(number, found.times[number], served[number]) for number in range(40)]
    put(tmp_path, "predictions", *answers, logged(99, found.times[45], []))
    window = Span(start=START, end=moment_of(int(found.times[-1]) + 1))
    both = served_pairs(tmp_path, "fraud", window, found)
    np.testing.assert_array_equal(both.history, found.inputs[:40])
    np.testing.assert_array_equal(both.served, served[:40])


def test_rows_that_cannot_be_told_apart_are_left_out():
    found = rows(10)
    twice = np.concatenate([found.inputs[:1], found.inputs[:1], found.inputs[1:3]])
    times = np.concatenate([found.times[:1], found.times[:1], found.times[1:3]])
    assert len(paired(found, twice, times).history) == 2


def test_without_a_prediction_log_nothing_was_served(tmp_path):
    found = rows(10)
    nothing = served_pairs(tmp_path, "fraud", Span(start=START, end=moment_of(int(found.times[-1]) + 1)), found)
    assert nothing.served.shape == (0, len(INPUTS))
