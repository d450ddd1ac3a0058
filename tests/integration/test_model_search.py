"""Model search: the better wins, the simpler wins a tie, and what wins is calibrated by rows it did not learn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reference_system.errors import TrainingError
from reference_system.event_time import MICROS_PER_DAY
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.training.fraud.evaluation import PaymentEvaluator
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.model_search import FoldResult, Trial, conclude_search, trials_of
from reference_system.training.prequential import Protocol
from reference_system.training.selection import SelectionSpec, select

NAMES = ("logistic_regression", "random_forest", "extra_trees", "gradient_boosting")
SIMPLE, FOREST = Trial(name="logistic_regression", setting={}), Trial(name="random_forest", setting={})


def result(worth):
    labels = np.array([0.0, 1.0])
    return FoldResult(scores=labels, labels=labels, metrics={"average_precision": worth})


def winner(*folds):
    return conclude_search(
        (SIMPLE, FOREST), [(result(simple), result(forest)) for simple, forest in folds]
    ).winner.trial


def test_the_best_average_over_the_folds_wins():
    assert winner((0.5, 0.7), (0.4, 0.6), (0.6, 0.8)) == FOREST


def test_the_simpler_wins_where_the_folds_differ_by_more_than_the_models():
    assert winner((0.5, 0.6), (0.6, 0.52), (0.5, 0.58)) == SIMPLE


def test_what_is_hard_for_both_is_no_reason_to_doubt_the_difference():
    assert winner((0.9, 0.92), (0.3, 0.32), (0.6, 0.619)) == FOREST


def test_one_fold_knows_no_spread_so_its_best_wins():
    assert winner((0.5, 0.5001)) == FOREST


def test_a_tie_is_explained():
    found = conclude_search((SIMPLE, FOREST), [(result(0.5), result(0.6)), (result(0.6), result(0.51))])
    assert "simpler" in found.reason
    assert "random_forest" in found.reason


def test_without_a_fold_nothing_is_chosen():
    with pytest.raises(TrainingError, match="no fold"):
        conclude_search((SIMPLE,), [])


def test_a_name_that_is_no_estimator_is_refused_before_any_work():
    with pytest.raises(TrainingError, match="extra_trees"):
        trials_of(["oracle"])


def payments(seed, *, days=28, count=4_000, constant=False):
    """Rows whose label depends on two inputs; the third says nothing, a fourth is the same everywhere."""
    rng = np.random.default_rng(seed)
    inputs = rng.lognormal(0.0, 1.0, (count, 3)).astype(np.float32)
    labels = (rng.random(count) < 0.5 / (1.0 + np.exp(7.0 - inputs[:, 0] - 2.0 * inputs[:, 1]))).astype(float)
    if constant:
        inputs = np.column_stack([inputs, np.ones(count, np.float32)])
    times = np.arange(count) * (days * MICROS_PER_DAY // count)
    return LabelledRows(inputs=inputs, labels=labels, groups=rng.integers(0, 300, count), times=times)


def selection_spec(names=NAMES, most_negatives=700):
    return SelectionSpec(
        candidates=names,
        baselines=("noise",),
        primary_metric="average_precision",
        inputs=("first", "second", "noise"),
        validation=Protocol(train_days=7, delay_days=7, test_days=7, folds=3),
        most_negatives=most_negatives,
    )


@pytest.fixture(scope="module")
def selection():
    return select(selection_spec(), payments(1), PaymentEvaluator(rows=payments(2)), seed=1)


def test_every_estimator_is_a_candidate_and_the_folds_chose(selection):
    assert [one.model.name for one in selection.candidates] == list(NAMES)
    assert selection.best.model.name in selection.reason
    assert [set(fold) for fold in selection.folds] == [{"average_precision", "roc_auc", "rows", "positive_rows"}] * 2


def test_every_candidate_says_the_same_calibrated_probability_as_its_onnx(selection):
    unseen = payments(3).inputs
    for candidate in selection.candidates:
        served = OnnxScorer(candidate.model.to_onnx(3)).score(unseen)
        assert candidate.model.calibration is not None
        assert np.abs(served - candidate.model.score(unseen)).max() <= 1e-6


def test_negatives_that_stand_for_many_do_not_raise_the_probability(selection):
    unseen = payments(4)
    for candidate in selection.candidates:
        assert candidate.model.score(unseen.inputs).mean() == pytest.approx(unseen.labels.mean(), rel=0.35)


def test_the_same_inputs_choose_and_learn_the_same_bytes():
    names = ("logistic_regression", "extra_trees")
    one, other = (
        select(selection_spec(names), payments(1), PaymentEvaluator(rows=payments(2)), seed=1) for _ in range(2)
    )
    assert one.reason == other.reason
    for mine, yours in zip(one.candidates, other.candidates, strict=True):
        assert mine.model.to_onnx(3) == yours.model.to_onnx(3)


def test_a_constant_input_changes_nothing():
    names = ("logistic_regression",)
    scores = []
    for constant in (False, True):
        found = select(
            selection_spec(names),
            payments(1, constant=constant),
            PaymentEvaluator(rows=payments(2, constant=constant)),
            seed=1,
        )
        scores.append(found.best.model.score(payments(3, constant=constant).inputs))
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_without_a_usable_fold_the_simplest_is_taken_uncalibrated_and_it_is_said():
    rows = payments(1, days=28)
    # All frauds in the first days: no later week has both outcomes.
    labels = np.where(rows.times < 3 * MICROS_PER_DAY, rows.labels, 0.0)
    early = LabelledRows(inputs=rows.inputs, labels=labels, groups=rows.groups, times=rows.times)
    found = select(selection_spec(), early, PaymentEvaluator(rows=payments(2)), seed=1)
    assert found.best.model.name == "logistic_regression"
    assert found.best.model.calibration is None
    assert "no fold" in found.reason


def test_a_single_class_is_refused_by_the_estimator():
    rows = payments(1)
    nobody = LabelledRows(inputs=rows.inputs, labels=0 * rows.labels, groups=rows.groups, times=rows.times)
    with pytest.raises(TrainingError, match="0 positive labels"):
        select(selection_spec(), nobody, PaymentEvaluator(rows=payments(2)), seed=1)


def test_without_a_validation_the_judge_chooses_and_nothing_is_calibrated():
    names = ("logistic_regression", "gradient_boosting")
    found = select(
        replace(selection_spec(names), validation=None), payments(1), PaymentEvaluator(rows=payments(2)), seed=1
    )
    worth = {one.model.name: one.evaluation.metrics["average_precision"] for one in found.candidates}
    assert found.best.model.name == max(worth, key=worth.__getitem__)
    assert found.best.model.calibration is None
    assert found.folds == ()
