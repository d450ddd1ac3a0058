"""MLflow: runs with everything that made a model, registered versions, and the aliases champion and challenger.

In: a trained model with its evaluation. Out: a registered version whose run holds the verified bundle.
Invariant: an alias only ever points at a version whose bundle is complete; models are stored as ONNX, never pickled.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from numpy.typing import NDArray

from reference_system.errors import BundleRefused, ServiceError
from reference_system.registry.bundles.bundle import version_folder
from reference_system.registry.promotion import CHALLENGER, CHAMPION

BUNDLE = "bundle"
MODEL_CARD = "model_card.md"
# What the logged model needs; without a list MLflow would start a process to find out.
_REQUIREMENTS = ["onnxruntime", "numpy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedCandidate:
    """One candidate of a selection, for its own nested run."""

    name: str
    parameters: Mapping[str, float | int | str]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedTraining:
    """Everything that a training run leaves in MLflow; `plots` are PNG bytes by file name.

    `folds` are the chosen model's metrics in each prequential fold, the oldest first: steps of `fold.*`.
    """

    use_case: str
    name: str
    parameters: Mapping[str, float | int | str]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    candidates: Sequence[LoggedCandidate]
    plots: Mapping[str, bytes]
    folds: Sequence[Mapping[str, float]]
    model: bytes
    inputs: Sequence[str]
    example: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A version of a registered model and the run that it comes from."""

    use_case: str
    version: str
    run_id: str


def use_mlflow(url: str) -> None:
    """Which MLflow server the functions of this module speak to."""
    mlflow.set_tracking_uri(url)
    mlflow.set_registry_uri(url)


def register_training(training: LoggedTraining, write_bundle: Callable[[str], Path]) -> Registered:
    """Log the training, register its model, and give it the alias challenger.

    Args:
        training: what to log.
        write_bundle: writes the bundle of the version that it is told, and returns the bundle's folder.

    Raises:
        ServiceError: if MLflow does not take it.
    """
    with _answering(), _quiet():
        mlflow.set_experiment(training.use_case)
        with mlflow.start_run(run_name=training.name, tags=dict(training.tags)) as run:
            mlflow.log_params(dict(training.parameters))
            mlflow.log_metrics(_metrics(training.metrics))
            for step, fold in enumerate(training.folds):
                mlflow.log_metrics(_metrics({f"fold.{name}": value for name, value in fold.items()}), step=step)
            for candidate in training.candidates:
                _log_candidate(candidate)
            _log_plots(training.plots)
            version = _log_model(training)
            folder = write_bundle(version)
            mlflow.log_artifacts(str(folder), BUNDLE)
            mlflow.set_tag("model_version", version)
        mlflow.MlflowClient().set_registered_model_alias(training.use_case, CHALLENGER, version)
    return Registered(use_case=training.use_case, version=version, run_id=run.info.run_id)


def log_verdict(
    registered: Registered, answer: str, reasons: Sequence[str], verdict: Mapping[str, object], card: str
) -> None:
    """Leave the answer at the run (tags, `gate.json`, `model_card.md`) and at the version (tag, description)."""
    with _answering():
        client = mlflow.MlflowClient()
        client.set_tag(registered.run_id, "gate", answer)
        client.set_tag(registered.run_id, "gate_reason", reasons[0])
        client.log_dict(registered.run_id, dict(verdict), "gate.json")
        client.log_text(registered.run_id, card, MODEL_CARD)
        client.set_model_version_tag(registered.use_case, registered.version, "gate", answer)
        client.update_model_version(registered.use_case, registered.version, card)


def champion_version(use_case: str) -> str | None:
    """The version with the alias champion, or `None` before the first promotion.

    Raises:
        ServiceError: if MLflow does not answer.
    """
    return _alias(use_case, CHAMPION)


def fetch_bundle(use_case: str, version: str, root: Path) -> Path:
    """Bring the bundle of a version to this machine; whoever loads it verifies it.

    Raises:
        BundleRefused: if the version has no bundle.
        ServiceError: if MLflow does not answer.
    """
    folder = version_folder(root, use_case, version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{version}.") as draft:
        with _answering(), _quiet():
            run_id = mlflow.MlflowClient().get_model_version(use_case, version).run_id
            found = Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=BUNDLE, dst_path=draft))
        if not found.is_dir() or not any(found.iterdir()):
            raise BundleRefused(f"{use_case}: version {version} has no bundle in the registry")
        if folder.exists():
            shutil.rmtree(folder)
        found.rename(folder)
    return folder


def _log_candidate(candidate: LoggedCandidate) -> None:
    with mlflow.start_run(run_name=candidate.name, nested=True):
        mlflow.log_params(dict(candidate.parameters))
        mlflow.log_metrics(_metrics(candidate.metrics))


def _log_plots(plots: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in plots.items():
            (Path(folder) / name).write_bytes(content)
        mlflow.log_artifacts(folder, "plots")


def _log_model(training: LoggedTraining) -> str:
    logged = mlflow.onnx.log_model(
        onnx.load_from_string(training.model),
        name="model",
        registered_model_name=training.use_case,
        signature=ModelSignature(
            # An array and not named columns: for a dataframe MLflow flattens the two probabilities into one column.
            inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, len(training.inputs)))]),
            outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 2), "probabilities")]),
        ),
        input_example=training.example,
        onnx_execution_providers=["CPUExecutionProvider"],
        metadata={"inputs": list(training.inputs)},
        pip_requirements=_REQUIREMENTS,
    )
    return str(logged.registered_model_version)


def _metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """MLflow's names have no `@`."""
    return {name.replace("@", "_at_"): value for name, value in metrics.items()}


def _alias(use_case: str, alias: str) -> str | None:
    with _answering():
        try:
            return str(mlflow.MlflowClient().get_model_version_by_alias(use_case, alias).version)
        except MlflowException as error:
            # An unknown alias is an invalid parameter, an unknown model does not exist.
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


@contextmanager
def _answering() -> Iterator[None]:
    """MLflow's errors as ours."""
    try:
        yield
    except MlflowException as error:
        fact = str(error).strip().splitlines()[0]
        raise ServiceError(f"MLflow refused: {fact}", next_command="workbook logs mlflow") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without MLflow's progress bars and farewells, which are for people at a prompt."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield
