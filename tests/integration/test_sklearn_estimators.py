"""The estimators and their way to ONNX."""

from __future__ import annotations

import numpy as np
import pytest

from reference_system.errors import TrainingError
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.selection import require_parity
from reference_system.training.sklearn_estimators import fit_estimator
from reference_system.use_cases.fraud import model as fraud
from reference_system.use_cases.recommendation import model as recommendation

NAMES = sorted({*fraud.CANDIDATES, *recommendation.CANDIDATES})


def rows(count=3_000, seed=6):
    rng = np.random.default_rng(seed)
    inputs = rng.lognormal(1.0, 2.0, (count, 5)).astype(np.float32)
    chance = 1.0 / (1.0 + np.exp(3.0 - np.log(inputs[:, 0]) - inputs[:, 1] / 50.0))
    labels = (rng.random(count) < chance).astype(float)
    groups = np.arange(count) % 100
    return LabelledRows(inputs=inputs, labels=labels, groups=groups, times=np.arange(count))


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return fit_estimator(request.param, rows(), seed=1)


def test_the_served_form_scores_as_the_fitted_one_on_rows_it_never_saw(model):
    served = OnnxScorer(model.to_onnx(5))
    assert served.width == 5
    assert require_parity(model, served.score, rows(seed=7).inputs, most=1e-5) < 1e-5


def test_scores_are_probabilities_that_order_the_classes(model):
    unseen = rows(seed=8)
    scores = model.score(unseen.inputs)
    assert ((scores >= 0.0) & (scores <= 1.0)).all()
    assert scores[unseen.labels == 1].mean() > scores[unseen.labels == 0].mean() + 0.1


def test_the_same_rows_and_seed_give_the_same_model(model):
    again = fit_estimator(model.name, rows(), seed=1)
    assert again.to_onnx(5) == model.to_onnx(5)


def test_a_name_that_is_no_estimator_is_refused_with_those_that_are():
    with pytest.raises(TrainingError, match="random_forest"):
        fit_estimator("oracle", rows(), seed=1)


def test_a_served_form_that_is_another_model_is_refused(model):
    with pytest.raises(TrainingError, match="scores differently as ONNX"):
        require_parity(model, lambda inputs: model.score(inputs) + 1e-4, rows().inputs, most=1e-5)


def test_a_served_form_without_numbers_is_refused(model):
    with pytest.raises(TrainingError):
        require_parity(model, lambda inputs: model.score(inputs) * np.nan, rows().inputs, most=1e-5)
