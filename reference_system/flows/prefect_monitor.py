"""Monitoring: mature labels, performance, drift, freshness and volume, as one report.

In: the lake, the feature tables, the champions, the world's clock. Out: a page and its figures under `reports/`, a
run in MLflow, and a summary that names the next command where something has changed.
Invariant: a run reads what others wrote and changes none of it; what cannot be judged yet is said so.

The current window is the last two days of event time: one day would take every weekend for a shift, a longer window
would hide a new shift among old days for longer than a visitor waits.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
import numpy as np
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from reference_system.delta_lake import read
from reference_system.errors import BundleRefused, ServiceError
from reference_system.feedback.duckdb_labels import fraud_shares, page_outcomes, payment_outcomes
from reference_system.flows.prefect_steps import event_time, say, step, warn
from reference_system.monitoring.drift import CURRENT_BLOCKS, FALSE_ALARM_RATE, MATERIAL_PSI
from reference_system.monitoring.duckdb_volumes import volumes
from reference_system.monitoring.fraud_watch import watch_fraud
from reference_system.monitoring.html_report import render
from reference_system.monitoring.mlflow_figures import log_report
from reference_system.monitoring.performance import FraudShare
from reference_system.monitoring.recommendation_watch import watch_recommendation
from reference_system.monitoring.report import (
    Freshness,
    Report,
    ScenarioRun,
    UseCaseReport,
    Window,
    findings_of,
    level_of,
    verdict_of,
    write_report,
)
from reference_system.monitoring.scene import Champion, Scene
from reference_system.paths import StatePaths
from reference_system.registry.bundles import current_version, load_bundle, version_folder
from reference_system.settings import Settings, load_settings
from reference_system.stack.local_http import ask
from reference_system.stack.metrics_page import read_metrics
from reference_system.use_cases import TOPICS
from reference_system.use_cases.fraud import model as fraud
from reference_system.use_cases.recommendation import model as recommendation
from reference_system.use_cases.recommendation.events import VIDEOS
from reference_system.windows import Floats
from reference_system.world.scenarios import SCENARIOS, read_runs

_VOLUME_DAYS = 14
_PERFORMANCE_DAYS = 35


class MonitorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found."""

    as_of: datetime
    level: str
    verdict: str
    report: str
    next_commands: tuple[str, ...]
    drifted: dict[str, tuple[str, ...]]
    judged: dict[str, int]
    mlflow_run: str | None


@flow(name="monitor", log_prints=False)
def monitor() -> dict[str, object]:
    """Look at everything and write a report.

    Returns:
        `MonitorSummary` as a dict.
    """
    settings = load_settings()
    as_of = event_time(StatePaths(settings.state_dir))
    cases = (step(judge_fraud, as_of), step(judge_recommendation, as_of))
    report = _assemble(settings, as_of, cases)
    page, run = step(publish, report)
    for finding in report.findings:
        warn(f"{finding.use_case}: {finding.text}; run `{finding.next_command}`")
    if not report.findings:
        say(report.verdict)
    summary = MonitorSummary(
        as_of=as_of,
        level=report.level,
        verdict=report.verdict,
        report=page,
        next_commands=tuple(dict.fromkeys(finding.next_command for finding in report.findings)),
        drifted={case.use_case: tuple(column.column for column in case.drifted) for case in cases},
        judged={case.use_case: case.judged for case in cases},
        mlflow_run=run,
    )
    done: dict[str, object] = msgspec.to_builtins(summary)
    return done


@task(cache_policy=NO_CACHE)
def judge_fraud(as_of: datetime) -> UseCaseReport:
    """Drift and performance of the fraud model."""
    settings = load_settings()
    scene = _scene(settings, as_of)
    outcomes = payment_outcomes(scene.lake, _since(scene), as_of, as_of=as_of)
    champion = _champion(settings, fraud.NAME, fraud.SIGNATURE)
    shares = fraud_shares(scene.lake, _midnight(scene.days_ago(_PERFORMANCE_DAYS)), as_of=as_of)
    by_day = [FraudShare(**row) for row in shares.to_pylist()]
    report = watch_fraud(scene, champion, outcomes, by_day)
    say(f"fraud: {report.judged} columns judged, {outcomes.num_rows} answers with mature labels")
    return report


@task(cache_policy=NO_CACHE)
def judge_recommendation(as_of: datetime) -> UseCaseReport:
    """Drift and performance of the recommender."""
    settings = load_settings()
    scene = _scene(settings, as_of)
    outcomes = page_outcomes(scene.lake, scene.days_ago(_PERFORMANCE_DAYS), as_of, as_of=as_of)
    champion = _champion(settings, recommendation.NAME, recommendation.SIGNATURE)
    catalogue_size = read(scene.lake, VIDEOS, end=as_of, columns=("video_id",)).read_all().num_rows
    report = watch_recommendation(scene, champion, outcomes, catalogue_size=catalogue_size)
    say(f"recommendation: {report.judged} columns judged, {outcomes.num_rows} shown videos with mature labels")
    return report


@task(cache_policy=NO_CACHE)
def publish(report: Report) -> tuple[str, str | None]:
    """Write the page and the figures; returns the page's path and the MLflow run, where MLflow took it."""
    settings = load_settings()
    page = write_report(StatePaths(settings.state_dir).reports, report, render(report))
    try:
        # The client itself would go on asking for minutes.
        ask(settings.port("mlflow"), "/health")
        run = log_report(settings.url("mlflow"), report, page)
    except (OSError, ServiceError) as error:
        warn(f"the figures are in the report but not in MLflow: {error}")
        return str(page), None
    return str(page), run


def _assemble(settings: Settings, as_of: datetime, cases: tuple[UseCaseReport, ...]) -> Report:
    paths = StatePaths(settings.state_dir)
    arrived = volumes(paths.lake, TOPICS, as_of=as_of, days=_VOLUME_DAYS)
    found = findings_of(cases, arrived, as_of=as_of)
    runs = read_runs(paths.world / SCENARIOS)
    return Report(
        as_of=as_of,
        current=Window(start=as_of - timedelta(days=CURRENT_BLOCKS), end=as_of),
        speed=settings.speed,
        false_alarm_rate=FALSE_ALARM_RATE,
        material_psi=MATERIAL_PSI,
        use_cases=cases,
        freshness=_freshness(settings),
        volumes=arrived,
        scenarios=tuple(ScenarioRun(name=run.name, started=run.started, stopped=run.stopped) for run in runs),
        findings=found,
        level=level_of(cases, found),
        verdict=verdict_of(cases, found),
    )


def _freshness(settings: Settings) -> Freshness:
    """From the producer's send to readable in the online store, as ingestion measures it."""
    try:
        page = read_metrics(settings.port("ingestion_metrics"))
    except OSError:
        return Freshness(statement="Freshness is not known: ingestion does not answer (see workbook status).")
    p50, p99 = (page.value("workbook_freshness_ms", quantile=quantile) for quantile in ("0.5", "0.99"))
    if p50 is None or p99 is None:
        return Freshness(statement="Freshness is not known: no event has arrived since ingestion started.")
    return Freshness(
        p50_ms=p50,
        p99_ms=p99,
        statement=f"At the world's speed the p99 is {p99 * settings.speed / 60_000:.1f} min of event time.",
    )


def _champion(settings: Settings, use_case: str, signature: tuple[str, ...]) -> Champion | None:
    """The verified bundle that serving answers with, or `None` with a line in the log."""
    root = StatePaths(settings.state_dir).bundles
    version = current_version(root, use_case)
    if version is None:
        say(f"{use_case}: no champion yet")
        return None
    try:
        bundle = load_bundle(version_folder(root, use_case, version), use_case=use_case, inputs=signature)
    except BundleRefused as error:
        warn(f"{use_case}: champion {version} cannot be used as a reference: {error}")
        return None

    def score(inputs: Floats) -> Floats:
        return bundle.scorer.score(inputs.astype(np.float32)).astype(np.float64)

    return Champion(
        version=version,
        learned_until=bundle.manifest.data_window.end,
        metrics=bundle.manifest.metrics,
        score=score,
    )


def _scene(settings: Settings, as_of: datetime) -> Scene:
    paths = StatePaths(settings.state_dir)
    return Scene(
        lake=paths.lake,
        feature_tables=paths.feature_tables,
        as_of=as_of,
        history_start=settings.history_start,
        live_start=settings.history_start + timedelta(days=settings.history_days),
    )


def _since(scene: Scene) -> datetime:
    """Answers exist since the end of the history."""
    return max(scene.live_start, scene.days_ago(_PERFORMANCE_DAYS))


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)
