"""Judges and selection: every scorer answers the same rows, the best by the primary metric is chosen."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from reference_system.errors import TrainingError
from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.training.fraud.evaluation import PaymentEvaluator
from reference_system.training.fraud.matplotlib_plots import fraud_plots
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.recommendation.evaluation import PageEvaluator
from reference_system.training.recommendation.matplotlib_plots import recommendation_plots
from reference_system.training.recommendation.page_cases import PageCase
from reference_system.training.selection import SelectionSpec, input_as_score, select

DAY = micros(datetime(2025, 3, 1, tzinfo=UTC))


def payments(seed, count=4_000):
    """Rows whose label depends on the second input; the first is noise."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(count, 3)).astype(np.float32)
    labels = (rng.random(count) < 0.4 / (1.0 + np.exp(4.0 - 3.0 * inputs[:, 1]))).astype(float)
    times = DAY + np.arange(count) * (7 * MICROS_PER_DAY // count)
    return LabelledRows(inputs=inputs, labels=labels, groups=rng.integers(0, 500, count), times=times)


CONTEST = SelectionSpec(
    candidates=("logistic_regression", "gradient_boosting"),
    baselines=("noise",),
    primary_metric="average_precision",
    inputs=("noise", "signal", "other"),
)


@pytest.fixture(scope="module")
def selection():
    return select(CONTEST, payments(1), PaymentEvaluator(rows=payments(2)), seed=1)


def test_the_candidate_with_the_best_primary_metric_is_chosen(selection):
    worth = {one.model.name: one.evaluation.metrics["average_precision"] for one in selection.candidates}
    assert selection.best.model.name == max(worth, key=worth.__getitem__)
    assert set(worth) == set(CONTEST.candidates)


def test_a_baseline_is_one_input_as_it_is(selection):
    judged = selection.baselines["noise"]
    np.testing.assert_array_equal(judged.scores, payments(2).inputs[:, 0])
    assert judged.metrics["roc_auc"] == pytest.approx(0.5, abs=0.1)


def test_the_primary_metric_with_equal_weights_is_the_reported_one(selection):
    best = selection.best.evaluation
    groups = PaymentEvaluator(rows=payments(2)).groups
    assert best.primary(np.ones(groups)) == pytest.approx(best.metrics["average_precision"])


def test_card_precision_names_the_k_of_this_world(selection):
    assert "card_precision@20" in selection.best.evaluation.metrics


def test_a_metric_that_is_no_number_is_refused():
    test = payments(2)
    nobody = LabelledRows(inputs=test.inputs, labels=0 * test.labels, groups=test.groups, times=test.times)
    with np.errstate(invalid="ignore"), pytest.raises(TrainingError, match="not all numbers"):
        select(CONTEST, payments(1), PaymentEvaluator(rows=nobody), seed=1)


def page_case(number, relevant, recent=()):
    """Twelve candidates; the only input of candidate i is i."""
    candidates = np.arange(12)
    return PageCase(
        viewer=f"v{number}",
        time=DAY,
        candidates=candidates,
        inputs=candidates[:, None].astype(np.float32),
        recent=frozenset(recent),
        relevant=relevant,
    )


@pytest.fixture
def page_evaluator():
    # Every video has a category of its own, so the page's rules hold nothing back but what is recent.
    return PageEvaluator(
        rows=LabelledRows(
            inputs=np.array([[1.0], [2.0]], np.float32),
            labels=np.array([0.0, 1.0]),
            groups=np.arange(2),
            times=np.full(2, DAY),
        ),
        cases=[page_case(1, {11: 1.0}), page_case(2, {0: 9.0, 10: 1.0}, recent=(11,))],
        categories=list(range(12)),
    )


def test_pages_are_in_the_scorers_order_without_what_was_watched_lately(page_evaluator):
    first, second = page_evaluator.pages(input_as_score(0))
    assert first == list(range(11, 1, -1))
    assert second == list(range(10, 0, -1))


def test_weights_rule_the_main_metrics_and_not_those_as_shown(page_evaluator):
    metrics = page_evaluator.evaluate(input_as_score(0)).metrics
    assert metrics["recall@10"] == pytest.approx(2.0 / 11.0)
    assert metrics["recall@10_as_shown"] == pytest.approx((1.0 + 0.5) / 2)
    assert metrics["coverage"] == pytest.approx(11 / 12)
    assert metrics["roc_auc"] == 1.0


def test_a_viewer_with_weight_zero_does_not_count(page_evaluator):
    primary = page_evaluator.evaluate(input_as_score(0)).primary
    assert primary(np.array([1.0, 0.0])) == 1.0
    assert primary(np.array([0.0, 1.0])) < 0.2


def test_plots_are_pictures(selection):
    drawn = fraud_plots(selection, payments(2))
    assert set(drawn) == {"precision_recall.png", "scores.png", "calibration.png"}
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())


def test_plots_of_pages_are_pictures_too(page_evaluator):
    spec = SelectionSpec(
        candidates=("logistic_regression",), baselines=("only",), primary_metric="ndcg@10", inputs=("only",)
    )
    selection = select(spec, page_evaluator.rows, page_evaluator, seed=1)
    drawn = recommendation_plots(selection, page_evaluator.rows, np.array([1.0, 2.0]))
    assert set(drawn) == {"ndcg.png", "position.png", "calibration.png"}
    assert all(content.startswith(b"\x89PNG") for content in drawn.values())
