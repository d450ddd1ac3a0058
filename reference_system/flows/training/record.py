"""The record of a training: what MLflow is told, and what the model card shows.

In: a trained case, its bundle, the gate's verdict. Out: `LoggedTraining`, `Card`.
Invariant: the same inputs give the same record, but for what the run cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from reference_system.arrays import Floats
from reference_system.flows.training.case import training_case
from reference_system.flows.training.trained_model import Trained, evaluators_of
from reference_system.registry.bundles.bundle import Bundle, BundleManifest
from reference_system.registry.bundles.onnx_scorer import OnnxScorer
from reference_system.registry.gate.decision import GateDecision
from reference_system.registry.mlflow_registry import LoggedCandidate, LoggedTraining
from reference_system.registry.model_card import Card
from reference_system.training.evaluation import matplotlib_plots
from reference_system.training.evaluation.evaluation import CALIBRATION_ERROR
from reference_system.training.evaluation.importance import permutation_importance

_EXAMPLE_ROWS = 3


def importance_of(trained: Trained, *, seed: int) -> Floats:
    """What the exported model looks at, one number an input."""
    return permutation_importance(OnnxScorer(trained.model).score, trained.case.evaluator.rows, seed=seed)


def logged_training(trained: Trained, importance: Floats, *, commit: str | None) -> LoggedTraining:
    """What MLflow is told."""
    best, split = trained.selection.best, trained.case.split
    parameters = {
        **_data_parameters(trained),
        **{f"model.{name}": value for name, value in best.model.parameters.items()},
    }
    tags = {"primary_metric": trained.spec.primary_metric, "trigger": trained.trigger}
    return LoggedTraining(
        use_case=trained.use_case,
        name=f"{best.model.name} as of {split.as_of:%Y-%m-%d %H:%M}",
        parameters=parameters,
        metrics=_metrics(trained),
        folds=folds_of(trained),
        tags=tags | ({"commit": commit} if commit else {}),
        candidates=[
            LoggedCandidate(
                name=candidate.model.name,
                parameters=candidate.model.parameters,
                metrics=candidate.evaluation.metrics,
            )
            for candidate in trained.selection.candidates
        ],
        plots=training_case(trained.use_case).plots(trained.case, trained.selection)
        | {"importance.png": matplotlib_plots.importance_plot(trained.spec.inputs, importance)},
        model=trained.model,
        inputs=trained.spec.inputs,
        example=trained.case.evaluator.rows.inputs[:_EXAMPLE_ROWS],
    )


def card_of(  # noqa: PLR0913 - what a card is about
    trained: Trained,
    challenger: Bundle,
    champion: Bundle | None,
    verdict: GateDecision,
    importance: Floats,
    *,
    commit: str | None,
) -> Card:
    """What the model card shows."""
    evaluator, metric = trained.case.evaluator, trained.spec.primary_metric
    ours = trained.selection.best.evaluation
    theirs = None if champion is None else evaluator.evaluate(champion.scorer.score)
    columns = {"challenger": ours.metrics, **({} if theirs is None else {"champion": theirs.metrics})}
    columns |= {f"{name} alone": values for name, values in _baselines(trained).items()}
    everyone = np.ones(evaluator.groups)
    slices = {
        name: {"positives": float(one.positives), metric: one.worth(everyone)}
        for name, one in ours.slices().items()
        if one.positives
    }
    if theirs is not None:
        champions = theirs.slices()
        for name, row in slices.items():
            row[f"champion's {metric}"] = champions[name].worth(everyone)
    order = np.argsort(-importance, kind="stable").tolist()
    return Card(
        use_case=trained.use_case,
        version=challenger.manifest.model_version,
        facts=_facts(trained, challenger.manifest, commit),
        metrics={
            name: {column: values[name] for column, values in columns.items() if name in values}
            for name in ours.metrics
        },
        folds=folds_of(trained),
        slices={
            name: {what: number for what, number in row.items() if np.isfinite(number)} for name, row in slices.items()
        },
        importance=[(trained.spec.inputs[place], float(importance[place])) for place in order],
        verdict=verdict,
    )


def folds_of(trained: Trained) -> Sequence[Mapping[str, float]]:
    """The chosen model's metrics in each prequential fold, the oldest first."""
    return trained.selection.folds


def _facts(trained: Trained, manifest: BundleManifest, commit: str | None) -> dict[str, str]:
    case, split, cost = trained.case, trained.case.split, trained.cost
    labels = "as reported so far" if split.is_fresh else "mature"
    return {
        "estimator": manifest.estimator,
        "trained because": trained.trigger,
        "chosen because": trained.selection.reason,
        "as of": f"{split.as_of:%Y-%m-%d %H:%M}",
        "learned from": f"{len(case.train):,} rows ({int(case.train.labels.sum()):,} positive) from {split.train}",
        **{
            f"judged on ({name})": f"{len(evaluator.rows):,} rows ({int(evaluator.rows.labels.sum()):,} positive)"
            for name, evaluator in evaluators_of(case).items()
        },
        "labels": labels,
        "data digest": manifest.data_digest,
        "commit": commit or "not a checkout",
        "inputs": ", ".join(manifest.inputs),
        "largest difference to its served form": f"{trained.difference:.1e}",
        "cost": (
            f"{cost.seconds:.1f} s, {cost.cpu_seconds:.1f} CPU seconds, peak of the process {cost.peak_mb:.0f} MB,"
            f" model {len(trained.model) / 1e6:.2f} MB"
        ),
    }


def _data_parameters(trained: Trained) -> dict[str, float | int | str]:
    case, split = trained.case, trained.case.split
    return {
        "estimator": trained.selection.best.model.name,
        "trigger": trained.trigger,
        "labels": "as reported" if split.is_fresh else "mature",
        "train_start": split.train.start.isoformat(),
        "train_end": split.train.end.isoformat(),
        "test_start": split.test.start.isoformat(),
        "test_end": split.test.end.isoformat(),
        "as_of": split.as_of.isoformat(),
        "train_rows": len(case.train),
        "train_positives": int(case.train.labels.sum()),
        "test_rows": len(case.evaluator.rows),
        "test_positives": int(case.evaluator.rows.labels.sum()),
        "dataset_digest": case.train.digest(),
        "test_digest": case.evaluator.rows.digest(),
    }


def _metrics(trained: Trained) -> dict[str, float]:
    """Of the test window, of each baseline and slice, and what the run cost; what is no number is left out."""
    cost, best = trained.cost, trained.selection.best.evaluation
    metrics = dict(trained.metrics) | {
        "onnx_largest_difference": trained.difference,
        "cost.seconds": cost.seconds,
        "cost.cpu_seconds": cost.cpu_seconds,
        "cost.peak_mb": cost.peak_mb,
        "cost.model_bytes": float(len(trained.model)),
    }
    for name, values in _baselines(trained).items():
        metrics |= {f"baseline.{name}.{metric}": value for metric, value in values.items()}
    everyone = np.ones(trained.case.evaluator.groups)
    for name, one in best.slices().items():
        metrics[f"slice.{name}.{trained.spec.primary_metric}"] = one.worth(everyone)
    return {name: value for name, value in metrics.items() if np.isfinite(value)}


def _baselines(trained: Trained) -> dict[str, dict[str, float]]:
    """What an input alone is worth; it is no probability, so how far it is from one means nothing."""
    return {
        name: {metric: value for metric, value in evaluation.metrics.items() if metric != CALIBRATION_ERROR}
        for name, evaluation in trained.selection.baselines.items()
    }
