"""The estimators, by the names that the use cases list, and their way to ONNX.

In: labelled rows, a seed. Out: a fitted model that scores rows, and the same model as ONNX bytes.
Invariant: the same rows and seed give the same model.

Boosting's threads wait for one another at every split: beside busy services two of them took ten times longer than one
(OpenMP spins), so it has one. The trees of a forest need not wait, and are fitted in two threads.

The bounds keep every fit to seconds on two cores and every model to a few megabytes; what they cost in quality is
in the runs that compare the candidates.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from skl2onnx import to_onnx
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from reference_system.errors import TrainingError
from reference_system.training.labelled_rows import Inputs, LabelledRows
from reference_system.windows import Floats

_CORES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModel:
    """An estimator that has learned; `parameters` are what it was made with."""

    name: str
    estimator: Any
    parameters: Mapping[str, float | int | str]

    def score(self, inputs: Inputs) -> Floats:
        """The probability of class 1, shape (n,)."""
        with threadpool_limits(1):
            return np.asarray(self.estimator.predict_proba(inputs)[:, 1], np.float64)

    def to_onnx(self, width: int) -> bytes:
        """The model as ONNX: one float32 input [None, width], probabilities [None, 2] among the outputs."""
        example = np.zeros((1, width), np.float32)
        with warnings.catch_warnings():
            # The converter writes booleans where protobuf 7 will want whole numbers (see the cap in pyproject.toml).
            warnings.filterwarnings("ignore", message="Field onnx", category=DeprecationWarning)
            exported = to_onnx(self.estimator, example, options={id(self.estimator): {"zipmap": False}})
        return bytes(exported.SerializeToString())


def fit(name: str, rows: LabelledRows, *, seed: int) -> FittedModel:
    """Fit the estimator with that name.

    Raises:
        TrainingError: if there is no such estimator.
    """
    if name not in _ESTIMATORS:
        raise TrainingError(f"there is no estimator {name!r} (there are {', '.join(_ESTIMATORS)})")
    estimator = _ESTIMATORS[name](seed)
    with threadpool_limits(1):
        estimator.fit(rows.inputs, rows.labels.astype(np.int64))
    last = estimator[-1] if name == "logistic_regression" else estimator
    plain = {key: value for key, value in last.get_params().items() if isinstance(value, float | int | str)}
    return FittedModel(name=name, estimator=estimator, parameters=plain)


def _logistic_regression(seed: int) -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300, random_state=seed))


def _random_forest(seed: int) -> object:
    return RandomForestClassifier(
        n_estimators=60,
        max_depth=12,
        min_samples_leaf=4,
        max_samples=0.25,  # of the rows, for each tree
        n_jobs=_CORES,
        random_state=seed,
    )


def _gradient_boosting(seed: int) -> object:
    return HistGradientBoostingClassifier(
        max_iter=150,
        learning_rate=0.06,
        max_leaf_nodes=15,
        min_samples_leaf=60,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=seed,
    )


_ESTIMATORS: Mapping[str, Callable[[int], Any]] = {
    "logistic_regression": _logistic_regression,
    "random_forest": _random_forest,
    "gradient_boosting": _gradient_boosting,
}
