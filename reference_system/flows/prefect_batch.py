"""Batch scoring: the champion's predictions for many at once.

In: a use case, and for fraud a finished day. Out: one Parquet file under `batch/<use case>/<day>.parquet`, and a run
in MLflow's experiment `batch`.
Invariant: a prediction is what the real-time service would have answered for the same inputs. A file is replaced
whole, so any day can be scored again; a run that fails leaves the file of the run before.

Fraud reads the values that the ETL computed for the moment of each payment; recommendation reads the states of now,
as a request would, and answers for every viewer who was active in the last week.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from reference_system import delta_lake
from reference_system.clock import SimulatedClock
from reference_system.errors import StateError
from reference_system.features import feast_store
from reference_system.flows.prefect_etl import Mark
from reference_system.flows.prefect_steps import is_watched, say
from reference_system.paths import StatePaths
from reference_system.registry.bundles import Bundle, UseCase, current_version, load_bundle, version_folder
from reference_system.serving.bentoml_service import fraud_model, open_reads, ranker_model
from reference_system.serving.catalogue import read_catalogue
from reference_system.serving.mlflow_batch_runs import BatchRun, log_batch_run
from reference_system.serving.recommending import compose
from reference_system.settings import load_settings
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.use_cases.fraud.policy import decide
from reference_system.use_cases.recommendation import features as recommendation
from reference_system.use_cases.recommendation.events import IMPRESSIONS
from reference_system.windows import Floats

_DAY = timedelta(days=1)
_ACTIVE = timedelta(days=7)
_PAGE = 10
_TIMESTAMP = pa.timestamp("us", tz="UTC")


class BatchSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did."""

    use_case: str
    day: str
    model_version: str
    rows: int
    rows_per_second: float
    file: str
    run_id: str


@flow(name="score-batch", log_prints=False)
def score_batch(use_case: str, day: str | None = None) -> dict[str, object]:
    """Score a batch with the champion.

    Args:
        use_case: `fraud` or `recommendation`.
        day: ISO date of a finished day (fraud); by default the newest that the feature tables hold.

    Returns:
        `BatchSummary` as a dict.
    """
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    started = perf_counter()
    if use_case == "fraud":
        chosen = _finished_day(paths, day)
        table, scores, version = (score_payments if is_watched() else score_payments.fn)(chosen)
    elif use_case == "recommendation":
        chosen = _today(paths, day)
        table, scores, version = (compose_pages if is_watched() else compose_pages.fn)(chosen)
    else:
        raise StateError(f"there is no use case {use_case!r} (there are fraud and recommendation)")
    name = f"{chosen:%Y-%m-%d}"
    path = paths.batch / use_case / f"{name}.parquet"
    write_predictions(path, table)
    seconds = perf_counter() - started
    say(f"{use_case}: {table.num_rows} rows for {name} by version {version} in {seconds:.1f} s")
    run = BatchRun(
        use_case=use_case,
        day=name,
        model_version=version,
        rows=table.num_rows,
        seconds=seconds,
        scores=scores,
        file=str(path.relative_to(paths.root)),
    )
    run_id = log_batch_run(settings.url("mlflow"), run)
    summary = BatchSummary(
        use_case=use_case,
        day=name,
        model_version=version,
        rows=run.rows,
        rows_per_second=round(run.rows / seconds, 1),
        file=str(path),
        run_id=run_id,
    )
    done: dict[str, object] = msgspec.to_builtins(summary)
    return done


@task(cache_policy=NO_CACHE, persist_result=False)
def score_payments(day: datetime) -> tuple[pa.Table, Floats, str]:
    """The predictions for the payments of one day, in order of time, their scores and the model's version."""
    paths = StatePaths(load_settings().state_dir)
    model = fraud_model(_champion(paths, "fraud", fraud.INPUTS))
    columns = ["transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp"]
    payments = delta_lake.read(paths.lake, TRANSACTIONS, start=day, end=day + _DAY, columns=columns).read_all()
    payments = payments.sort_by([("event_timestamp", "ascending"), ("transaction_id", "ascending")])
    if not payments.num_rows:
        raise StateError(f"the lake has no payment of {day:%Y-%m-%d}")
    views = (fraud.CUSTOMER_ACTIVITY, fraud.TERMINAL_RISK)
    joined = feast_store.historical(feast_store.open_store(paths), payments, views)
    inputs = fraud_inputs(joined)
    if np.isnan(inputs).any():
        raise StateError(
            f"the feature tables miss values of {day:%Y-%m-%d}",
            next_command=f"workbook etl --from {day:%Y-%m-%d} --to {day + _DAY:%Y-%m-%d}",
        )
    scores = model.scorer(inputs.astype(np.float32))
    decisions = [decide(score, model.thresholds) for score in scores.tolist()]
    table = (
        payments.append_column("score", pa.array(scores, pa.float64()))
        .append_column("decision", pa.array(decisions, pa.string()))
        .append_column("model_version", pa.array([model.version] * len(scores), pa.string()))
    )
    return table, scores, model.version


def fraud_inputs(payments: pd.DataFrame) -> Floats:
    """The model's input rows, shape (n, 15), of payments with their joined features."""
    moments = pd.to_datetime(payments["event_timestamp"], utc=True)
    request = [
        fraud.request_inputs(amount, moment.to_pydatetime())
        for amount, moment in zip(payments["amount"], moments, strict=True)
    ]
    names = [*fraud.CUSTOMER_ACTIVITY.features, *fraud.TERMINAL_RISK.features]
    return np.column_stack([np.asarray(request, np.float64), payments[names].to_numpy(np.float64)])


@task(cache_policy=NO_CACHE, persist_result=False)
def compose_pages(now: datetime) -> tuple[pa.Table, Floats, str]:
    """A page for every active viewer at `now`, the scores of its videos and the model's version."""
    paths = StatePaths(load_settings().state_dir)
    model = ranker_model(_champion(paths, "recommendation", recommendation.INPUTS))
    read = open_reads(paths)
    catalogue = read_catalogue(model, read, now)
    shown = delta_lake.read(paths.lake, IMPRESSIONS, start=now - _ACTIVE, columns=["viewer_id"]).read_all()
    viewers = sorted(pc.unique(shown["viewer_id"]).to_pylist())
    if not viewers:
        raise StateError(f"no viewer was active in the {_ACTIVE.days} days before {now:%Y-%m-%d}")
    pages = [compose(viewer, _PAGE, now, catalogue, read) for viewer in viewers]
    broken = sum(page.inputs is None for page in pages)
    if broken:
        raise StateError(f"the states of {broken} viewers cannot be read", next_command="workbook etl")
    scores = np.array([item.score for page in pages for item in page.items], np.float64)
    table = pa.table(
        {
            "viewer_id": pa.array(viewers, pa.string()),
            "video_ids": pa.array([[item.video_id for item in page.items] for page in pages], pa.list_(pa.string())),
            "scores": pa.array([[item.score for item in page.items] for page in pages], pa.list_(pa.float64())),
            "event_timestamp": pa.array([now] * len(viewers), _TIMESTAMP),
            "model_version": pa.array([model.version] * len(viewers), pa.string()),
        }
    )
    return table, scores, model.version


def write_predictions(path: Path, table: pa.Table) -> None:
    """Replace the file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    pq.write_table(table, draft, compression="zstd")
    draft.replace(path)


def _champion(paths: StatePaths, use_case: UseCase, inputs: tuple[str, ...]) -> Bundle:
    version = current_version(paths.bundles, use_case)
    if version is None:
        raise StateError(f"there is no champion for {use_case} yet", next_command=f"workbook train {use_case}")
    return load_bundle(version_folder(paths.bundles, use_case, version), use_case=use_case, inputs=inputs)


def _finished_day(paths: StatePaths, day: str | None) -> datetime:
    """Midnight of the day to score: its features are complete.

    Raises:
        StateError: if the ETL has not finished the day.
    """
    mark = paths.feature_tables / "etl.json"
    if not mark.exists():
        raise StateError("there are no feature tables yet", next_command="workbook etl")
    complete = _midnight(msgspec.json.decode(mark.read_bytes(), type=Mark).end)
    chosen = complete - _DAY if day is None else _date(day)
    if chosen + _DAY > complete:
        raise StateError(
            f"the feature tables are complete up to {complete:%Y-%m-%d}, so {chosen:%Y-%m-%d} cannot be scored yet",
            next_command="workbook etl",
        )
    return chosen


def _today(paths: StatePaths, day: str | None) -> datetime:
    """Event time's now: pages are made from the states of now, and of no other day."""
    try:
        now = SimulatedClock(paths.clock).now()
    except FileNotFoundError as error:
        raise StateError(f"no world has run in {paths.root} yet", next_command="make up") from error
    if day is not None and _date(day) != _midnight(now):
        raise StateError(f"pages are made from the states of now, {now:%Y-%m-%d}; not for {day}")
    return now


def _date(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise StateError(f"{text!r} is no day such as 2025-03-01") from error


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
