"""What is watched of the fraud model.

In: the prediction log, the feature tables, outcomes. Out: drift of the served inputs and of the score; performance,
on mature labels and before (`monitoring/fraud/early_watch.py`).

The reference is what the champion learned from: the feature tables of the last four weeks of its data window. The
current window is what was served: the prediction log. So a difference between the offline and the online value of a
feature (skew) shows here as well as a change of the world (drift). The score is compared with the scores that the
same champion gives the reference rows, so that a promotion is no drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec
import numpy as np
import pyarrow as pa

from reference_system.arrays import Floats, Micros
from reference_system.monitoring.drift import TREND_BLOCKS, ColumnDrift, ColumnSample, compare_columns
from reference_system.monitoring.duckdb_windows import Answers, coverage, served_answers
from reference_system.monitoring.fraud.duckdb_payments import (
    PAYMENT_ANSWERS,
    fraud_features,
    payments_between,
)
from reference_system.monitoring.monitoring_run import (
    MIN_COVERAGE,
    MonitoringRun,
    WatchedChampion,
    horizons,
    nothing,
)
from reference_system.monitoring.performance import (
    DayFigures,
    FraudShare,
    MaturePayments,
    change_of,
    fraud_share_change,
    payment_days,
)
from reference_system.monitoring.report.record import (
    ColumnGroup,
    Early,
    Performance,
    Quality,
    TimeSpan,
    UseCaseReport,
)
from reference_system.monitoring.sklearn_metrics import average_precision, roc_auc
from reference_system.use_cases.fraud import model
from reference_system.use_cases.fraud.features import INPUTS, VIEWS
from reference_system.use_cases.fraud.labels import LABEL_DELAY

FRAUD_SCORE = "score"
FRAUD_LEFT_OUT = (
    "transaction_id, customer_id, terminal_id: identifiers",
    "is_weekend: the calendar; like days are compared",
)
# Days ago, from and to, that served inputs are compared with the feature tables; a served input is a float32.
_SKEW_DAYS = (4, 1)
_LEAST_COMPARED = 100
_SAME = 1e-5
_WATCHED = tuple(name for name in INPUTS if name != "is_weekend")
_HORIZONS = horizons(VIEWS)
_NO_ANSWERS = "no payment of it has an answer in the prediction log"
_NO_TABLES = "no feature tables of these days; run `workbook etl`"


def watch_fraud(
    run: MonitoringRun,
    champion: WatchedChampion | None,
    outcomes: pa.Table,
    shares: Sequence[FraudShare],
    *,
    early: Early | None,
) -> UseCaseReport:
    """Everything that is known about the fraud model at the moment of the run.

    Args:
        run: where and when.
        champion: the model that answers; without one the reference is the last weeks before this one.
        outcomes: `feedback.duckdb_labels.payment_outcomes`.
        shares: the frauds among all payments by day.
        early: what is known before labels are mature.
    """
    window = run.weeks_before(champion.learned_until if champion else run.as_of)
    covered = coverage(run.lake, PAYMENT_ANSWERS, run.days_ago(2), run.as_of)
    times, inputs = fraud_features(run.lake, run.feature_tables, window.start, window.end)
    answers = served_answers(run.lake, PAYMENT_ANSWERS, run.days_ago(TREND_BLOCKS), run.as_of)
    reference = _reference(run, champion, times, inputs)
    recent = _recent(run, champion, answers)
    if covered < MIN_COVERAGE:
        reason = f"{covered:.0%} of its payments have a logged answer, {MIN_COVERAGE:.0%} are needed"
        recent = dict.fromkeys(recent, nothing(reason if covered else _NO_ANSWERS))
    about = (
        "The model's inputs as they were served, against the feature tables of the weeks that "
        + _which_weeks(run, champion)
        + "; the score against the champion's scores on those rows."
    )
    group = ColumnGroup(
        title="Served inputs and score", about=about, reference=window, columns=compare_columns(reference, recent)
    )
    happened = ColumnGroup(
        title="Payments",
        about="What happened, whether it was scored or not: the lake against the lake.",
        reference=window,
        columns=_payments_as_they_happened(run, window),
    )
    return UseCaseReport(
        use_case=model.NAME,
        champion=champion.version if champion else None,
        coverage=covered,
        groups=(happened, group),
        left_out=FRAUD_LEFT_OUT,
        performance=msgspec.structs.replace(_performance(run, champion, outcomes, shares), early=early),
        quality=_quality(run, answers),
    )


def _quality(run: MonitoringRun, answers: Answers) -> Quality:
    """How the last day was answered, and whether the day before was served what history says."""
    newest = run.blocks(answers.times) == 0
    count = int(newest.sum())
    return Quality(
        answers=count,
        degraded_share=float(np.isnan(answers.scores[newest]).mean()) if count else 0.0,
        skew=_skew(run, answers),
    )


def _skew(run: MonitoringRun, answers: Answers) -> dict[str, float]:
    """By input the share of answers whose served value is not the feature table's for the same payment.

    Looked at where the tables exist: the ETL runs every other day, so mostly the days before yesterday.
    """
    start, end = run.days_ago(_SKEW_DAYS[0]), run.days_ago(_SKEW_DAYS[1])
    times, inputs = fraud_features(run.lake, run.feature_tables, start, end)
    moments = answers.times[answers.owners]
    _, here, there = np.intersect1d(moments, times, return_indices=True)
    if len(here) < _LEAST_COMPARED:
        return {}
    one, two = answers.inputs[here], inputs[there]
    apart = np.abs(one - two) > _SAME * np.maximum(1.0, np.abs(two))
    return {name: float(apart[:, column].mean()) for column, name in enumerate(INPUTS)}


def _which_weeks(run: MonitoringRun, champion: WatchedChampion | None) -> str:
    if champion is None:
        return "came before (no champion yet)"
    if champion.learned_until < run.oldest_end:
        return f"are the oldest kept (those that champion {champion.version} learned from are gone)"
    return f"champion {champion.version} learned from"


def _payments_as_they_happened(run: MonitoringRun, window: TimeSpan) -> tuple[ColumnDrift, ...]:
    reference, recent = (
        payments_between(run.lake, start, end)
        for start, end in ((window.start, window.end), (run.days_ago(TREND_BLOCKS), run.as_of))
    )
    none = "no payments"
    return compare_columns(
        {"payment_amount": run.sample(*reference, since=window.start, empty=none)},
        {"payment_amount": run.sample(*recent, since=run.history_start, empty=none)},
    )


def _reference(
    run: MonitoringRun, champion: WatchedChampion | None, times: Micros, inputs: Floats
) -> dict[str, ColumnSample]:
    samples = {
        name: run.sample(
            times,
            inputs[:, INPUTS.index(name)],
            since=run.history_start + _HORIZONS.get(name, timedelta(0)),
            empty=_NO_TABLES if not len(times) else "its windows were still filling",
        )
        for name in _WATCHED
    }
    longest = run.history_start + max(_HORIZONS.values())
    if champion is None:
        samples[FRAUD_SCORE] = nothing("no champion yet")
    else:
        scores = champion.score(inputs) if len(inputs) else np.empty(0)
        samples[FRAUD_SCORE] = run.sample(times, scores, since=longest, empty=_NO_TABLES)
    return samples


def _recent(run: MonitoringRun, champion: WatchedChampion | None, answers: Answers) -> dict[str, ColumnSample]:
    start = run.days_ago(TREND_BLOCKS)
    moments = answers.times[answers.owners]
    samples = {
        name: run.sample(moments, answers.inputs[:, INPUTS.index(name)], since=start, empty=_NO_ANSWERS)
        for name in _WATCHED
    }
    of_champion = answers.versions == (champion.version if champion else "")
    samples[FRAUD_SCORE] = run.sample(
        answers.times[of_champion], answers.scores[of_champion], since=start, empty="no answer of the champion"
    )
    return samples


def _performance(
    run: MonitoringRun, champion: WatchedChampion | None, outcomes: pa.Table, shares: Sequence[FraudShare]
) -> Performance:
    days = payment_days(_payments(outcomes), average_precision=average_precision, roc_auc=roc_auc)
    change = change_of(days, model.PRIMARY_METRIC)
    return Performance(
        primary=model.PRIMARY_METRIC,
        statement=_statement(run, days, can_compare=change is not None),
        days=days,
        change=change,
        offline=champion.metrics.get(model.PRIMARY_METRIC) if champion else None,
        shares=tuple(shares),
        share_change=fraud_share_change(shares),
    )


def _statement(run: MonitoringRun, days: tuple[DayFigures, ...], *, can_compare: bool) -> str:
    if not days:
        first = run.live_start + LABEL_DELAY + timedelta(days=1)
        return f"No mature labels yet: the first whole day of answers has them on {first:%Y-%m-%d %H:%M}."
    judged = sum(day.enough for day in days)
    if not judged:
        return "No day has enough known frauds to judge by."
    scope = f"Judged on {sum(day.rows for day in days):,} payments; labels mature {LABEL_DELAY.days} days late."
    return scope if can_compare else f"{scope} Too few days so far to say whether the newest are worse."


def _payments(outcomes: pa.Table) -> MaturePayments:
    customers = np.unique(np.array(outcomes["customer_id"].to_pylist(), np.str_), return_inverse=True)[1]
    return MaturePayments(
        times=outcomes["event_timestamp"].cast(pa.int64()).to_numpy(),
        versions=np.array(outcomes["model_version"].to_pylist(), np.str_),
        customers=customers.astype(np.int64),
        scores=outcomes["score"].to_numpy().astype(np.float64),
        decisions=np.array(outcomes["decision"].to_pylist(), np.str_),
        labels=outcomes["label"].to_numpy().astype(np.float64),
    )
