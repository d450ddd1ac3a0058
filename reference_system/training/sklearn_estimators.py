"""The estimators, by the names that the use cases list, and their way to ONNX.

In: labelled rows, a setting, a seed. Out: a fitted model that scores rows, and the same model as ONNX bytes.
Invariant: the same rows, setting and seed give the same model; both forms give the same probability.

Boosting's threads wait for one another at every split: beside busy services two of them took ten times longer than one
(OpenMP spins), so it has one. The trees of a forest need not wait, and are fitted in two threads.

The bounds keep every fit to seconds on two cores and every model to a few megabytes; what they cost in quality is
in the runs that compare the candidates.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import to_onnx
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from reference_system.arrays import Floats, Floats32
from reference_system.errors import TrainingError
from reference_system.training.evaluation.calibration import Calibration
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.onnx_export import logistic, with_calibration

# Hyper-parameters by scikit-learn's names.
EstimatorSetting = Mapping[str, float | int | str]
_CORES = 2
# Trees of a forest in a search, and in the one that is kept: more order better, and cost as much more.
_TREES, _KEPT_TREES = 64, 160
_LOGISTIC = "logistic_regression"
_THREADED = ("random_forest", "extra_trees")


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModel:
    """An estimator that has learned; `parameters` are what it was made with, `calibration` what makes it honest."""

    name: str
    estimator: Any
    parameters: Mapping[str, float | int | str]
    calibration: Calibration | None = None

    def score(self, inputs: Floats32) -> Floats:
        """The probability of class 1, shape (n,)."""
        # In single precision the scaler alone moves probabilities by 2e-6; trees compare, and need no more digits.
        rows = inputs.astype(np.float64) if self.name == _LOGISTIC else inputs
        with threadpool_limits(1):
            scores = np.asarray(self.estimator.predict_proba(rows)[:, 1], np.float64)
        return scores if self.calibration is None else self.calibration.apply(scores)

    def to_onnx(self, width: int) -> bytes:
        """The model as ONNX: one float32 input [None, width], one output of probabilities [None, 2]."""
        if self.name == _LOGISTIC:
            scaler, regression = self.estimator
            weights = regression.coef_[0] / scaler.scale_
            return logistic(weights, float(regression.intercept_[0] - weights @ scaler.mean_), self.calibration)
        example = np.zeros((1, width))
        with warnings.catch_warnings():
            # The converter writes booleans where protobuf 7 will want whole numbers (see the cap in pyproject.toml).
            warnings.filterwarnings("ignore", message="Field onnx", category=DeprecationWarning)
            exported = to_onnx(self.estimator, example, options={id(self.estimator): {"zipmap": False}})
        return with_calibration(exported, exported.graph.output[1].name, self.calibration)

    def calibrated(self, calibration: Calibration | None) -> FittedModel:
        """The same model with its scores made probabilities."""
        if calibration is None:
            return self
        learned = {"calibration_a": calibration.a, "calibration_b": calibration.b, "calibration_c": calibration.c}
        return replace(self, calibration=calibration, parameters={**self.parameters, **learned})


def settings_of(name: str) -> tuple[EstimatorSetting, ...]:
    """What a search tries of an estimator; the first is what it has without a search.

    Raises:
        TrainingError: if there is no such estimator.
    """
    if name not in _SETTINGS:
        raise TrainingError(f"there is no estimator {name!r} (there are {', '.join(_SETTINGS)})")
    return _SETTINGS[name]


def kept_setting(setting: EstimatorSetting) -> EstimatorSetting:
    """The setting for the model that is kept: a forest grows to its full size."""
    return {**setting, "n_estimators": _KEPT_TREES} if "n_estimators" in setting else setting


def fit_estimator(
    name: str, rows: LabelledRows, *, seed: int, setting: EstimatorSetting | None = None, negative_share: float = 1.0
) -> FittedModel:
    """Fit the estimator with that name.

    Args:
        name: whose.
        rows: what it learns from.
        seed: of its chance and of the choice of negatives.
        setting: its hyper-parameters; the first of `settings_of` by default.
        negative_share: so many of the rows of class 0 are drawn and stand for all of them, with their weight.

    Raises:
        TrainingError: if there is no such estimator, or the rows have one class.
    """
    chosen = settings_of(name)[0] if setting is None else setting
    kept, weights = _drawn(rows.labels, negative_share, seed)
    if not 0 < rows.labels.sum() < len(rows):
        raise TrainingError(f"{name} cannot learn from {len(rows)} rows with {rows.labels.sum():.0f} positive labels")
    estimator = _ESTIMATORS[name](seed, chosen)
    weighted = {} if weights is None else _weights(name, weights)
    with threadpool_limits(1), _contained_threads(name):
        estimator.fit(rows.inputs[kept], rows.labels[kept].astype(np.int64), **weighted)
    _round_thresholds(estimator)
    if "n_jobs" in estimator.get_params():
        # Threads add up the trees' votes in the order in which they finish: the last digit would depend on chance.
        estimator.set_params(n_jobs=1)
    last = estimator[-1] if name == _LOGISTIC else estimator
    plain = {key: value for key, value in last.get_params().items() if isinstance(value, float | int | str)}
    return FittedModel(name=name, estimator=estimator, parameters=plain)


def _contained_threads(name: str) -> AbstractContextManager[object]:
    """Keep what a forest's threads do to the process's warning filters to the fit.

    Each thread of scikit-learn sets and restores them, and they are the process's: one may restore what another had
    emptied, and from then on every tree of every forest warns that its filters are missing.
    """
    return warnings.catch_warnings(record=True) if name in _THREADED else nullcontext()


def _drawn(labels: Floats, share: float, seed: int) -> tuple[NDArray[np.bool_], Floats | None]:
    """Which rows are learned from, and what each of them counts."""
    if share >= 1.0:
        return np.ones(len(labels), np.bool_), None
    kept = (labels == 1) | (np.random.default_rng(seed).random(len(labels)) < share)
    return kept, np.where(labels[kept] == 1, 1.0, 1.0 / share)


def _weights(name: str, weights: Floats) -> dict[str, Floats]:
    if name != _LOGISTIC:
        return {"sample_weight": weights}
    return {f"{step}__sample_weight": weights for step in ("standardscaler", "logisticregression")}


def _round_thresholds(estimator: Any) -> None:  # noqa: ANN401 - scikit-learn has no types
    """Round the thresholds of trees down to float32, as ONNX has them.

    A float32 input is at most a threshold exactly if it is at most the threshold rounded down: no row changes its
    leaf, and none can on the way to ONNX.
    """
    if isinstance(estimator, HistGradientBoostingClassifier):
        for (tree,) in estimator._predictors:  # noqa: SLF001 - the converter reads them there as well
            tree.nodes["num_threshold"] = _down(tree.nodes["num_threshold"])
    for tree in getattr(estimator, "estimators_", ()):
        tree.tree_.threshold[:] = _down(tree.tree_.threshold)


def _down(thresholds: Floats) -> Floats:
    near = thresholds.astype(np.float32)
    below = np.nextafter(near, np.float32(-np.inf))
    return np.where(near.astype(np.float64) > thresholds, below, near).astype(np.float64)


def _logistic_regression(seed: int, setting: EstimatorSetting) -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, random_state=seed, **setting))


def _random_forest(seed: int, setting: EstimatorSetting) -> object:
    return RandomForestClassifier(n_jobs=_CORES, random_state=seed, **setting)


def _extra_trees(seed: int, setting: EstimatorSetting) -> object:
    return ExtraTreesClassifier(n_jobs=_CORES, random_state=seed, **setting)


def _gradient_boosting(seed: int, setting: EstimatorSetting) -> object:
    return HistGradientBoostingClassifier(max_iter=150, early_stopping=False, random_state=seed, **setting)


_ESTIMATORS: Mapping[str, Callable[[int, EstimatorSetting], Any]] = {
    _LOGISTIC: _logistic_regression,
    "random_forest": _random_forest,
    "extra_trees": _extra_trees,
    "gradient_boosting": _gradient_boosting,
}
# Few on purpose: each is tried in every fold, within seconds. Boosting as it comes (31 leaves, a rate of 0.1) is not
# among them: it lost to a logistic regression on the card file (docs/models-fraud.md).
_SETTINGS: Mapping[str, tuple[EstimatorSetting, ...]] = {
    _LOGISTIC: ({"C": 1.0}, {"C": 0.03}),
    "random_forest": (
        {"n_estimators": _TREES, "min_samples_leaf": 2, "max_features": "sqrt"},
        {"n_estimators": _TREES, "min_samples_leaf": 5, "max_features": "sqrt"},
    ),
    "extra_trees": (
        {"n_estimators": _TREES, "min_samples_leaf": 5, "max_features": 1.0},
        {"n_estimators": _TREES, "min_samples_leaf": 3, "max_features": 0.5},
    ),
    "gradient_boosting": (
        {"learning_rate": 0.06, "max_leaf_nodes": 15, "min_samples_leaf": 60, "l2_regularization": 1.0},
        {"learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 30, "l2_regularization": 5.0},
    ),
}
