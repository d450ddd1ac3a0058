"""What is known of the fraud model before labels are mature.

In: reports and answers of the last weeks, the present champion and others. Out: early outcomes, and every model on
the same days.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Micros
from reference_system.event_time import micros
from reference_system.monitoring.fraud.champion_comparison import (
    AnsweredPayments,
    Rescored,
    early_change,
    missed,
    payment_days_by_version,
)
from reference_system.monitoring.fraud.early_outcomes import NOT_REPORTED, early_outcomes
from reference_system.monitoring.monitoring_run import MonitoringRun, WatchedChampion
from reference_system.monitoring.report.record import Early
from reference_system.monitoring.sklearn_metrics import average_precision
from reference_system.use_cases.fraud import model


def watch_early(
    run: MonitoringRun,
    champion: WatchedChampion | None,
    others: Sequence[WatchedChampion],
    reports: pa.Table,
    answers: pa.Table,
) -> Early:
    """Early outcomes and the models on the same days.

    Args:
        run: where and when.
        champion: the model that answers.
        others: models to compare it with, the champion before among them.
        reports: `feedback.duckdb_labels.payment_reports`.
        answers: `feedback.duckdb_labels.answered_payments`.
    """
    now = micros(run.as_of)
    learned_until = micros(champion.learned_until) if champion else now
    times, reported, withdrawn = (
        reports["time"].to_numpy(),
        _moments(reports, "reported"),
        _moments(reports, "withdrawn"),
    )
    outcomes = early_outcomes(times, reported, withdrawn, as_of=now, learned_until=learned_until)
    answered = _answered(answers)
    if champion is None or not len(answered.times):
        return Early(outcomes=outcomes)
    versions = {each.version: _rescored(each, answered) for each in (champion, *others)}
    mine = versions[champion.version]
    return Early(
        outcomes=outcomes,
        missed=missed(answered, mine, as_of=now),
        change=early_change(answered, mine, as_of=now, metric=average_precision),
        days=payment_days_by_version(answered, versions, champion.version, as_of=now, metric=average_precision),
    )


def _answered(answers: pa.Table) -> AnsweredPayments:
    """The answers that a model gave: what a rule answered had no inputs to give to another model."""
    width = len(model.SIGNATURE)
    by_model = answers.filter(pc.equal(pc.list_value_length(answers["features"]), width))
    inputs = by_model["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return AnsweredPayments(
        times=by_model["time"].to_numpy(),
        reported=_moments(by_model, "reported"),
        withdrawn=_moments(by_model, "withdrawn"),
        versions=np.array(by_model["model_version"].to_pylist(), np.str_),
        scores=by_model["score"].to_numpy().astype(np.float64),
        inputs=inputs.astype(np.float64).reshape(-1, width),
    )


def _moments(table: pa.Table, name: str) -> Micros:
    known: Micros = pc.fill_null(table[name], NOT_REPORTED).to_numpy().astype(np.int64)
    return known


def _rescored(one: WatchedChampion, answered: AnsweredPayments) -> Rescored:
    """What a model says of every payment; of those that it answered itself the log has it."""
    scores, others = answered.scores.copy(), answered.versions != one.version
    scores[others] = one.score(answered.inputs[others])
    return Rescored(scores=scores, review=one.review, learned_until=micros(one.learned_until))
