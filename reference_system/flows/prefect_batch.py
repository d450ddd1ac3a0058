"""Batch scoring: the champion's predictions for many at once.

In: a use case, and for fraud a finished day. Out: one Parquet file under `batch/<use case>/<day>.parquet`, and a run
in MLflow's experiment `batch`.
Invariant: a prediction is what the real-time service would have answered for the same inputs. A file is replaced
whole; a run that was killed is continued by the next one, and what is done is not done again (see
`flows/batch/partitions.py`).

Fraud reads the values that the ETL computed for the moment of each payment; recommendation reads the states of now,
as a request would, and answers for every viewer who was active in the last week.
"""

from __future__ import annotations

from time import perf_counter

import msgspec
import pyarrow.parquet as pq
from prefect import flow

from reference_system.arrays import Floats
from reference_system.errors import ServiceError
from reference_system.flows.batch.case import batch_case
from reference_system.flows.batch.mlflow_runs import BatchRun, log_batch_run
from reference_system.flows.batch.partitions import BatchOutcome, Passed, Written
from reference_system.flows.prefect_steps import say, warn
from reference_system.paths import StatePaths
from reference_system.settings import load_settings


class BatchSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did; `made_rows` and the speed are of this run alone, `run_id` is MLflow's."""

    use_case: str
    day: str
    model_version: str
    outcome: BatchOutcome
    rows: int
    made_rows: int
    rows_per_second: float
    inputs: str
    file: str
    run_id: str | None


@flow(name="score-batch", log_prints=False)
def score_batch(use_case: str, day: str | None = None, *, force: bool = False) -> dict[str, object]:
    """Score a batch with the champion.

    Args:
        use_case: `fraud` or `recommendation`.
        day: ISO date of a finished day (fraud); by default the newest that the feature tables hold.
        force: begin anew, also if the batch is there and made of the same inputs by the same model.

    Returns:
        `BatchSummary` as a dict.
    """
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    started = perf_counter()
    written = write_batch(paths, use_case, day, force=force)
    seconds = perf_counter() - started
    name = written.file.stem
    version = written.source.model_version
    say(f"{use_case}: {written.rows} rows for {name} by version {version}, {written.outcome} in {seconds:.1f} s")
    run_id = None if written.outcome == "already done" else _logged(settings.url("mlflow"), paths, written, seconds)
    summary = BatchSummary(
        use_case=use_case,
        day=name,
        model_version=version,
        outcome=written.outcome,
        rows=written.rows,
        made_rows=written.made_rows,
        rows_per_second=round(written.made_rows / seconds, 1),
        inputs=written.source.inputs,
        file=str(written.file),
        run_id=run_id,
    )
    done: dict[str, object] = msgspec.to_builtins(summary)
    return done


def write_batch(
    paths: StatePaths, use_case: str, day: str | None, *, force: bool = False, passed: Passed = lambda _: None
) -> Written:
    """Write the file of a batch; `passed` is called where a run can be interrupted.

    Raises:
        WorkbookError: if there is no such use case, or it cannot be scored; the message says why, and what to do.
    """
    return batch_case(use_case).write(paths, day, force=force, passed=passed, tell=say)


def _logged(url: str, paths: StatePaths, written: Written, seconds: float) -> str | None:
    """The run in MLflow. Without it the predictions are as good: they are there, and a backfill goes on."""
    run = BatchRun(
        use_case=written.source.use_case,
        day=written.file.stem,
        model_version=written.source.model_version,
        inputs=written.source.inputs,
        rows=written.made_rows,
        seconds=seconds,
        scores=_scores(written),
        file=str(written.file.relative_to(paths.root)),
    )
    try:
        return log_batch_run(url, run)
    except ServiceError as error:
        warn(str(error))
        return None


def _scores(written: Written) -> Floats:
    case = batch_case(written.source.use_case)
    return case.scores(pq.read_table(written.file, columns=[case.score_column])[0])
