"""What is watched of the recommender: its outcomes, and how the last day was answered."""

from __future__ import annotations

from reference_system.feedback.duckdb_recommendation_labels import page_outcomes
from reference_system.flows.monitoring.case import PERFORMANCE_DAYS, MonitoredCase, Watched
from reference_system.flows.monitoring.watched_models import watched_champion
from reference_system.lake.delta_lake import read
from reference_system.monitoring.duckdb_windows import degraded_share
from reference_system.monitoring.monitoring_run import MonitoringRun
from reference_system.monitoring.recommendation.watch import watch_recommendation
from reference_system.monitoring.report.record import Quality
from reference_system.settings import Settings
from reference_system.use_cases.recommendation.events import VIDEOS
from reference_system.use_cases.recommendation.model import NAME, SIGNATURE


def _watch(settings: Settings, run: MonitoringRun) -> Watched:
    """Drift and performance of the recommender."""
    as_of = run.as_of
    outcomes = page_outcomes(run.lake, run.days_ago(PERFORMANCE_DAYS), as_of, as_of=as_of)
    champion = watched_champion(settings, NAME, SIGNATURE)
    catalogue_size = read(run.lake, VIDEOS, end=as_of, columns=("video_id",)).read_all().num_rows
    answers, by_rule = degraded_share(run.lake, NAME, run.days_ago(1), as_of)
    report = watch_recommendation(
        run,
        champion,
        outcomes,
        catalogue_size=catalogue_size,
        quality=Quality(answers=answers, degraded_share=by_rule),
    )
    return Watched(report=report, outcomes=outcomes.num_rows, what="shown videos")


CASE = MonitoredCase(watch=_watch)
