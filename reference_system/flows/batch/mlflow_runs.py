"""Batch runs in MLflow: what was scored, by which version, how fast, and how the scores lie.

In: the figures of one batch. Out: a run in the experiment `batch`.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException

from reference_system.arrays import Floats
from reference_system.errors import ServiceError

BATCH_EXPERIMENT = "batch"
_BINS = 20
_QUANTILES = (0.5, 0.9, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """One batch; `rows` and `seconds` are of this run, `scores` has one value for each prediction of the file."""

    use_case: str
    day: str
    model_version: str
    inputs: str
    rows: int
    seconds: float
    scores: Floats
    file: str


def log_batch_run(url: str, run: BatchRun) -> str:
    """Log the batch; returns the run's id.

    Raises:
        ServiceError: if MLflow does not take it. The predictions are written by then, and stay.
    """
    counts, edges = np.histogram(run.scores, bins=_BINS, range=(0.0, 1.0))
    metrics = {"rows": float(run.rows), "rows_per_second": run.rows / run.seconds if run.seconds else 0.0}
    if len(run.scores):
        found = np.quantile(run.scores, _QUANTILES)
        metrics |= {
            f"score_p{quantile * 100:.0f}": float(value) for quantile, value in zip(_QUANTILES, found, strict=True)
        }
    try:
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment(BATCH_EXPERIMENT)
        # MLflow prints where the run can be seen; a program reads our own standard output.
        with contextlib.redirect_stdout(sys.stderr), mlflow.start_run(run_name=f"{run.use_case} {run.day}") as started:
            mlflow.log_params({"use_case": run.use_case, "day": run.day, "model_version": run.model_version})
            mlflow.set_tags({"file": run.file, "inputs": run.inputs})
            mlflow.log_metrics(metrics)
            mlflow.log_dict({"edges": edges.tolist(), "counts": counts.tolist()}, "score_histogram.json")
        return str(started.info.run_id)
    except MlflowException as error:
        fact = str(error).strip().splitlines()[0]
        raise ServiceError(f"the predictions are written, but MLflow did not take the run: {fact}") from error
