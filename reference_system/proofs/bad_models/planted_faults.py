"""Faults planted into a training, one at a time: errors that occur between the lake and the model.

In: a sound case, a random generator. Out: the case as a broken pipeline would produce it, or a faulty model.
Invariant: served values are never changed, so the inputs of training and serving may differ, as with a broken
pipeline.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from reference_system.arrays import Floats32
from reference_system.flows.training.trained_model import Trained
from reference_system.proofs.bad_models.onnx_slow_model import slowed
from reference_system.training.evaluation.calibration import Calibration
from reference_system.training.evaluation.evaluation import PaymentEvaluator
from reference_system.training.fraud.case import FraudCase
from reference_system.training.labelled_rows import LabelledRows
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, INPUTS, TERMINAL_RISK

Rng = np.random.Generator
# Inputs that break together, because one table or one query produces them.
_GROUPS = (
    ("amount", "customer_mean_amount_1d", "customer_mean_amount_7d", "customer_mean_amount_30d"),
    CUSTOMER_ACTIVITY.features,
    TERMINAL_RISK.features,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """A fault: its change to the rows or the model, whether inputs are renamed, whether the data is stale."""

    rows: Callable[[FraudCase, Rng], FraudCase] | None = None
    model: Callable[[Trained, Rng], Trained] | None = None
    renamed: bool = False
    stale: bool = False


def _labels_flipped(case: FraudCase, _: Rng) -> FraudCase:
    return replace(case, train=replace(case.train, labels=1.0 - case.train.labels))


def _label_noise(case: FraudCase, rng: Rng) -> FraudCase:
    """Most reports are joined to the wrong payments."""
    labels = case.train.labels.copy()
    frauds = np.flatnonzero(labels > 0)
    moved = rng.choice(frauds, int(len(frauds) * rng.uniform(0.85, 1.0)), replace=False)
    labels[moved] = 0.0
    labels[rng.choice(np.flatnonzero(case.train.labels == 0), len(moved), replace=False)] = 1.0
    return replace(case, train=replace(case.train, labels=labels))


def _constant(case: FraudCase, rng: Rng) -> FraudCase:
    """A join found no rows when the training set was built."""
    return _in_training(case, rng, lambda values: np.full_like(values, 0.0))


def _permuted(case: FraudCase, rng: Rng) -> FraudCase:
    """A join mixed up its rows when the training set was built."""
    return _in_training(case, rng, lambda values: values[rng.permutation(len(values))])


def _other_unit(case: FraudCase, rng: Rng) -> FraudCase:
    """History has cents where serving has whole units."""
    columns = _columns(_GROUPS[0])
    factor = np.float32(rng.choice([100.0, 1_000.0]))

    def changed(rows: LabelledRows) -> LabelledRows:
        inputs = rows.inputs.copy()
        inputs[:, columns] *= factor
        return replace(rows, inputs=inputs)

    return replace(case, train=changed(case.train), evaluator=PaymentEvaluator(rows=changed(case.evaluator.rows)))


def _leak(case: FraudCase, rng: Rng) -> FraudCase:
    """A column of history was computed after the outcome was known."""
    column = INPUTS.index(str(rng.choice(TERMINAL_RISK.features)))

    def changed(rows: LabelledRows) -> LabelledRows:
        inputs = rows.inputs.copy()
        inputs[:, column] = rows.labels + rng.normal(0.0, 0.05, len(rows))
        return replace(rows, inputs=inputs)

    return replace(case, train=changed(case.train), evaluator=PaymentEvaluator(rows=changed(case.evaluator.rows)))


def _slow(trained: Trained, rng: Rng) -> Trained:
    return replace(trained, model=slowed(trained.model, products=int(rng.integers(1_000, 2_000))))


def _uncalibrated(trained: Trained, rng: Rng) -> Trained:
    """The ranking is correct, but the score is not a probability."""
    slope = float(rng.uniform(0.05, 0.2))
    best = trained.selection.best
    model = replace(best.model, calibration=None).calibrated(Calibration(a=slope, b=slope, c=0.0))
    return replace(
        trained,
        selection=replace(trained.selection, best=replace(best, model=model)),
        model=model.to_onnx(len(trained.spec.inputs)),
    )


PLANTS: dict[str, Plant] = {
    "labels flipped": Plant(rows=_labels_flipped),
    "labels joined to the wrong payments": Plant(rows=_label_noise),
    "features missing in training": Plant(rows=_constant),
    "features mixed up in training": Plant(rows=_permuted),
    "features in another unit than served": Plant(rows=_other_unit),
    "an input that knows the outcome": Plant(rows=_leak),
    "stale data": Plant(stale=True),
    "slow": Plant(model=_slow),
    "not calibrated": Plant(model=_uncalibrated),
    "wrong signature": Plant(renamed=True),
}


def _in_training(case: FraudCase, rng: Rng, change: Callable[[Floats32], Floats32]) -> FraudCase:
    inputs = case.train.inputs.copy()
    columns = _columns(_GROUPS[int(rng.integers(len(_GROUPS)))])
    inputs[:, columns] = change(inputs[:, columns])
    return replace(case, train=replace(case.train, inputs=inputs))


def _columns(names: tuple[str, ...]) -> list[int]:
    return [INPUTS.index(name) for name in names]
