"""A day of payments, scored by the champion of now, in partitions of six hours.

In: a day whose features the ETL has finished. Out: `batch/fraud/<day>.parquet`, in the order of time.
Invariant: a payment's score is the one that the real-time service gives for the same inputs, to the last bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa

from reference_system.arrays import Floats
from reference_system.errors import StateError
from reference_system.features.feast import store as feast_store
from reference_system.flows.batch.case import BatchCase
from reference_system.flows.batch.champion import champion, model_digest
from reference_system.flows.batch.days import ONE_DAY, EmptyDay, day_named, finished_until, require_finished
from reference_system.flows.batch.partitions import (
    BatchSource,
    Partitions,
    Passed,
    Written,
    open_draft,
    source_of,
    table_bytes,
)
from reference_system.flows.prefect_etl import etl
from reference_system.flows.prefect_steps import step
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.serving.bentoml_service import fraud_model
from reference_system.serving.fraud.scoring import FraudModel
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.use_cases.fraud.policy import decide

# What is in memory at once. Each join opens the feature tables anew, so more and smaller ones cost more.
_HOURS = 6
_VIEWS = (fraud.CUSTOMER_ACTIVITY, fraud.TERMINAL_RISK)
_PAYMENT = ("transaction_id", "customer_id", "terminal_id", "amount", "event_timestamp")
SCORED_SCHEMA = pa.schema(
    [
        *(delta_lake.arrow_schema(TRANSACTIONS).field(name) for name in _PAYMENT),
        pa.field("score", pa.float64()),
        pa.field("decision", pa.string()),
        pa.field("model_version", pa.string()),
    ]
)


class FeaturesMissing(StateError):  # noqa: N818 - a fact about the tables, which the ETL mends
    """The feature tables miss values of a day: its payments reached the lake after the ETL had passed."""


def score_payments(
    paths: StatePaths, day: datetime, *, force: bool, passed: Passed, tell: Callable[[str], None]
) -> Written:
    """Score a finished day, or what is left of it; an unchanged day is left alone unless `force` is given.

    Raises:
        StateError: if there is no champion or no payment.
        FeaturesMissing: if the ETL has to compute the day again.
    """
    bundle = champion(paths, "fraud", fraud.INPUTS)
    model = fraud_model(bundle)
    target = paths.batch / "fraud" / f"{day:%Y-%m-%d}.parquet"
    source = BatchSource(
        use_case="fraud",
        event_timestamp=day,
        model_version=model.version,
        model=model_digest(bundle),
        inputs=_inputs_digest(paths, day),
    )
    with open_draft(target, "score-batch fraud") as draft:
        if not force and source_of(target) == source:
            return draft.already_done()
        if force or draft.source != source:
            draft.clear()
            draft.begin(source)
        starts = {f"{hour:02d}": day + timedelta(hours=hour) for hour in range(0, 24, _HOURS)}
        partitions = Partitions(
            names=tuple(starts), schema=SCORED_SCHEMA, make=lambda name: _scored(paths, starts[name], model)
        )
        return draft.finish(partitions, passed=passed, tell=tell)


def joined_inputs(payments: pd.DataFrame) -> Floats:
    """The model's input rows, shape (n, 15), of payments with their joined features."""
    moments = pd.to_datetime(payments["event_timestamp"], utc=True)
    request = [
        fraud.request_inputs(amount, moment.to_pydatetime())
        for amount, moment in zip(payments["amount"], moments, strict=True)
    ]
    names = [*fraud.CUSTOMER_ACTIVITY.features, *fraud.TERMINAL_RISK.features]
    return np.column_stack([np.asarray(request, np.float64), payments[names].to_numpy(np.float64)])


def _scored(paths: StatePaths, start: datetime, model: FraudModel) -> pa.Table:
    payments = _payments(paths, start)
    if not payments.num_rows:
        return SCORED_SCHEMA.empty_table()
    inputs = joined_inputs(feast_store.historical(feast_store.open_store(paths), payments, _VIEWS))
    if np.isnan(inputs).any():
        raise FeaturesMissing(
            f"the feature tables miss values of {start:%Y-%m-%d}",
            next_command=f"workbook etl --from {start:%Y-%m-%d} --to {start + ONE_DAY:%Y-%m-%d}",
        )
    # Row by row, as the service asks: of many rows at once a linear model's sums are taken in another order.
    rows = inputs.astype(np.float32)
    scores = [float(model.scorer(rows[place : place + 1])[0]) for place in range(len(rows))]
    decisions = [decide(score, model.thresholds) for score in scores]
    return (
        payments.append_column("score", pa.array(scores, pa.float64()))
        .append_column("decision", pa.array(decisions, pa.string()))
        .append_column("model_version", pa.array([model.version] * len(scores), pa.string()))
    )


def _payments(paths: StatePaths, start: datetime) -> pa.Table:
    end = start + timedelta(hours=_HOURS)
    # The tables of its day were closed when a late payment came: it has no features, and what is in no window is not
    # scored.
    found = delta_lake.read(paths.lake, TRANSACTIONS, start=start, end=end, columns=_PAYMENT, counted_only=True)
    return found.read_all().sort_by([("event_timestamp", "ascending"), ("transaction_id", "ascending")])


def _inputs_digest(paths: StatePaths, day: datetime) -> str:
    """The digest of the day's payments and of the files that hold their features."""
    digest, rows = hashlib.sha256(), 0
    for hour in range(0, 24, _HOURS):
        payments = _payments(paths, day + timedelta(hours=hour))
        digest.update(table_bytes(payments))
        rows += payments.num_rows
    if not rows:
        raise EmptyDay(f"the lake has no payment of {day:%Y-%m-%d}", next_command="workbook status")
    for view in _VIEWS:
        path = paths.feature_tables / view.name / f"{day:%Y-%m-%d}.parquet"
        if path.exists():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _write(paths: StatePaths, day: str | None, *, force: bool, passed: Passed, tell: Callable[[str], None]) -> Written:
    """A finished day, by default the newest that the feature tables hold."""
    chosen = finished_until(paths) - ONE_DAY if day is None else day_named(day)
    require_finished(paths, chosen)
    try:
        return score_payments(paths, chosen, force=force, passed=passed, tell=tell)
    except FeaturesMissing as missing:
        tell(f"{missing}: the ETL computes the day again")
        step(etl, f"{chosen:%Y-%m-%d}", f"{chosen + ONE_DAY:%Y-%m-%d}")
        return score_payments(paths, chosen, force=force, passed=passed, tell=tell)


def _scores(column: pa.ChunkedArray) -> Floats:
    found: Floats = column.to_numpy()
    return found


CASE = BatchCase(write=_write, of_past_days=True, score_column="score", scores=_scores)
