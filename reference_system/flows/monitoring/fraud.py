"""What is watched of the fraud model: its outcomes, and what is known before labels are mature."""

from __future__ import annotations

from datetime import datetime, timedelta

from reference_system.feedback.duckdb_fraud_labels import (
    answered_payments,
    fraud_shares,
    payment_outcomes,
    payment_reports,
)
from reference_system.flows.monitoring.case import PERFORMANCE_DAYS, MonitoredCase, Watched
from reference_system.flows.monitoring.watched_models import other_versions, watched_champion
from reference_system.monitoring.fraud.early_outcomes import EARLY_REFERENCE_DAYS, EARLY_WINDOW_DAYS
from reference_system.monitoring.fraud.early_watch import watch_early
from reference_system.monitoring.fraud.watch import watch_fraud
from reference_system.monitoring.monitoring_run import MonitoringRun
from reference_system.monitoring.performance import FraudShare
from reference_system.monitoring.remembered_scores import RememberedScores
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.use_cases.fraud.model import NAME, SIGNATURE

# Every champion scores the answers of these days again: as many as labels take to mature, twice.
_COMPARED_DAYS = 15


def _watch(settings: Settings, run: MonitoringRun) -> Watched:
    """Drift and performance of the fraud model."""
    as_of = run.as_of
    outcomes = payment_outcomes(run.lake, _since(run), as_of, as_of=as_of)
    memory = RememberedScores(StatePaths(settings.state_dir).remembered_scores)
    champion = watched_champion(settings, NAME, SIGNATURE, memory)
    shares = fraud_shares(run.lake, _midnight(run.days_ago(PERFORMANCE_DAYS)), as_of=as_of)
    by_day = [FraudShare(**row) for row in shares.to_pylist()]
    known = min(champion.learned_until, as_of) if champion else as_of
    early = watch_early(
        run,
        champion,
        other_versions(settings, NAME, SIGNATURE, memory),
        payment_reports(run.lake, known - timedelta(days=EARLY_REFERENCE_DAYS + EARLY_WINDOW_DAYS), as_of=as_of),
        answered_payments(run.lake, max(run.live_start, run.days_ago(_COMPARED_DAYS)), as_of=as_of),
    )
    report = watch_fraud(run, champion, outcomes, by_day, early=early)
    memory.save()
    return Watched(report=report, outcomes=outcomes.num_rows, what="answers")


def _since(run: MonitoringRun) -> datetime:
    """Answers exist since the end of the history."""
    return max(run.live_start, run.days_ago(PERFORMANCE_DAYS))


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


CASE = MonitoredCase(watch=_watch)
