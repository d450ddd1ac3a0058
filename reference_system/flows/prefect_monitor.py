"""Monitoring: outcomes, performance, drift, freshness, quality and volume, as one report; and what follows from it.

In: the lake, the feature tables, the champions, the world's clock. Out: a page and its figures under `reports/`, a
run in MLflow, a summary that names the next command where something has changed; where it may act, a training.
Invariant: what cannot be judged yet is said so; a look that may not act changes nothing of what others wrote.

The current window is the last two days of event time: one day would take every weekend for a shift, a longer window
would hide a new shift among old days for longer than a visitor waits.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from reference_system.clock import SimulatedClock
from reference_system.errors import ServiceError, WorkbookError
from reference_system.flows.model_history import log_alarms, log_retraining, logged_alarms, past_of
from reference_system.flows.monitoring.case import monitored_case
from reference_system.flows.monitoring.events import watch_events
from reference_system.flows.prefect_steps import say, step, warn
from reference_system.flows.retention.old_days import first_kept
from reference_system.monitoring.drift import CURRENT_BLOCKS, LOOP_FALSE_ALARM_RATE, MATERIAL_PSI
from reference_system.monitoring.duckdb_volumes import volumes
from reference_system.monitoring.monitoring_run import MonitoringRun
from reference_system.monitoring.report.findings import findings_of, level_of, verdict_of
from reference_system.monitoring.report.html_page import render_page
from reference_system.monitoring.report.mlflow_figures import log_report
from reference_system.monitoring.report.record import (
    MonitoringReport,
    ScenarioRun,
    TimeSpan,
    UseCaseReport,
    read_latest,
    write_report,
)
from reference_system.monitoring.retraining import RetrainDecision, rule
from reference_system.paths import StatePaths
from reference_system.settings import Settings, load_settings
from reference_system.stack.local_http import ask
from reference_system.use_case import USE_CASES, UseCase
from reference_system.use_cases import TOPICS
from reference_system.world.scenarios import SCENARIOS, read_runs

_VOLUME_DAYS = 14


class MonitorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found; `rulings` is what the retraining policy says, `trained` what was trained because of it."""

    as_of: datetime
    level: str
    verdict: str
    report: str
    next_commands: tuple[str, ...]
    drifted: dict[str, tuple[str, ...]]
    judged: dict[str, int]
    mlflow_run: str | None
    rulings: dict[str, str]
    trained: tuple[str, ...]


@flow(name="monitor", log_prints=False)
def monitor(*, act: bool = False) -> dict[str, object]:
    """Look at everything, write a report and, if it may act, train what the policy says.

    Args:
        act: log new alarms, and start the trainings that the policy calls for.

    Returns:
        `MonitorSummary` as a dict.
    """
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    as_of = SimulatedClock(paths.clock).now()
    last = read_latest(paths.reports)
    cases = tuple(step(watch, use_case, as_of) for use_case in USE_CASES)
    report, rulings = _assemble(settings, as_of, cases, last, act=act)
    page, run = step(publish, report)
    for finding in report.findings:
        warn(f"{finding.use_case}: {finding.text}; run `{finding.next_command}`")
    if not report.findings:
        say(report.verdict)
    trained = _act(paths, report, last, rulings) if act else ()
    summary = MonitorSummary(
        as_of=as_of,
        level=report.level,
        verdict=report.verdict,
        report=page,
        next_commands=tuple(dict.fromkeys(finding.next_command for finding in report.findings)),
        drifted={case.use_case: tuple(column.column for column in case.drifted) for case in cases},
        judged={case.use_case: case.judged for case in cases},
        mlflow_run=run,
        rulings=report.rulings,
        trained=trained,
    )
    done: dict[str, object] = msgspec.to_builtins(summary)
    return done


@task(cache_policy=NO_CACHE, task_run_name="watch {use_case}")
def watch(use_case: UseCase, as_of: datetime) -> UseCaseReport:
    """Drift and performance of one use case."""
    settings = load_settings()
    watched = monitored_case(use_case).watch(settings, _run_of(settings, as_of))
    report = watched.report
    say(f"{use_case}: {report.judged} columns judged, {watched.outcomes} {watched.what} with mature labels")
    return report


@task(cache_policy=NO_CACHE)
def publish(report: MonitoringReport) -> tuple[str, str | None]:
    """Write the page and the figures; returns the page's path and the MLflow run, where MLflow took it."""
    settings = load_settings()
    page = write_report(StatePaths(settings.state_dir).reports, report, render_page(report))
    try:
        # The client itself would go on asking for minutes.
        ask(settings.port("mlflow"), "/health")
        run = log_report(settings.url("mlflow"), report, page)
    except (OSError, ServiceError) as error:
        warn(f"the figures are in the report but not in MLflow: {error}")
        return str(page), None
    return str(page), run


def _assemble(
    settings: Settings, as_of: datetime, cases: tuple[UseCaseReport, ...], last: MonitoringReport | None, *, act: bool
) -> tuple[MonitoringReport, tuple[RetrainDecision, ...]]:
    paths = StatePaths(settings.state_dir)
    arrived = volumes(paths.lake, TOPICS, as_of=as_of, days=_VOLUME_DAYS)
    freshness, refusals = watch_events(settings, last)
    found = findings_of(cases, arrived, as_of=as_of, refusals=refusals)
    rulings = tuple(rule(name, found, past_of(paths.bundles, name), now=as_of) for name in USE_CASES)
    runs = read_runs(paths.world / SCENARIOS)
    report = MonitoringReport(
        as_of=as_of,
        current=TimeSpan(start=as_of - timedelta(days=CURRENT_BLOCKS), end=as_of),
        speed=settings.speed,
        false_alarm_rate=LOOP_FALSE_ALARM_RATE,
        material_psi=MATERIAL_PSI,
        use_cases=cases,
        freshness=freshness,
        volumes=arrived,
        scenarios=tuple(ScenarioRun(name=run.name, started=run.started, stopped=run.stopped) for run in runs),
        findings=found,
        level=level_of(cases, found),
        verdict=verdict_of(cases, found),
        refusals=refusals,
        rulings={each.use_case: _in_words(each) for each in rulings},
        logged=logged_alarms(found, last, act=act),
    )
    return report, rulings


def _in_words(decision: RetrainDecision) -> str:
    return f"train: {decision.reason}" if decision.trigger else f"no training: {decision.reason}"


def _act(
    paths: StatePaths, report: MonitoringReport, last: MonitoringReport | None, rulings: tuple[RetrainDecision, ...]
) -> tuple[str, ...]:
    """Log what is new, and train what the policy says, one after the other; the use cases that were trained."""
    log_alarms(paths.bundles, report, last)
    trained = []
    for decision in rulings:
        if decision.trigger is None:
            say(f"{decision.use_case}: {_in_words(decision)}")
            continue
        log_retraining(paths.bundles, decision, now=report.as_of)
        # Training's libraries take seconds to import, and a look alone does not need them.
        from reference_system.flows.prefect_train import train

        try:
            step(train, decision.use_case, trigger=decision.trigger)
        except WorkbookError as error:
            # No reason to lose the look: the champion goes on, and the policy tries again later.
            warn(f"{decision.use_case}: the training ended with: {error}")
        trained.append(decision.use_case)
    return tuple(trained)


def _run_of(settings: Settings, as_of: datetime) -> MonitoringRun:
    paths, kept = StatePaths(settings.state_dir), first_kept(settings, as_of)
    return MonitoringRun(
        lake=paths.lake,
        feature_tables=paths.feature_tables,
        as_of=as_of,
        history_start=settings.history_start,
        live_start=settings.history_start + timedelta(days=settings.history_days),
        kept_from=kept if kept > settings.history_start else None,
    )
