"""The report as a page that a person can read.

In: a `MonitoringReport`. Out: one HTML text with everything in it.
Invariant: the page needs nothing else: no script, no font, no picture from anywhere, and says so to the browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.monitoring.performance import DayFigures
from reference_system.monitoring.recommendation.page_worth import PerPage
from reference_system.monitoring.report import svg_charts
from reference_system.monitoring.report.record import Early, MonitoringReport, Performance, ScenarioRun
from reference_system.use_cases.recommendation.policy import BY_CHANCE

_TEMPLATE = "page.html.j2"
_METRIC_NAMES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "alerts": "alerts",
    "blocked_genuine_share": "genuine blocked",
    "degraded_share": "answered by rule",
    "watch_rate": "watch rate",
    "watches_per_page": "watches a page",
    "ndcg@10": "ndcg@10",
    "coverage": "catalogue shown",
}
_MANY = 60.0
# The policy of pages that a link from outside filled: one video, nearly always watched.
OUTSIDE_LINK_SHOWN = "outside_link"


def render_page(report: MonitoringReport) -> str:
    """The page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": _moment, "day": _day}
    environment.filters |= {"figure": _figure, "metric_name": _metric_name, "per_page": _per_page}
    return environment.get_template(_TEMPLATE).render(
        report=report,
        title=_title(report),
        charts=svg_charts,
        performance_chart=lambda performance: _performance_chart(performance, report),
        share_chart=lambda performance: _share_chart(performance, report),
        reported_chart=lambda early: _reported_chart(early, report),
        charted=charted,
        by_chance=BY_CHANCE,
        real_time=real_time(timedelta(days=1), report.speed),
    )


def _title(report: MonitoringReport) -> str:
    """The verdict in a few words."""
    if report.level == "alarm":
        kinds = dict.fromkeys(f"{finding.use_case} {finding.kind}" for finding in report.findings)
        return f"Look at: {', '.join(kinds)}"
    return "Nothing has changed" if report.level == "quiet" else "Nothing can be judged yet"


def real_time(stretch: timedelta, speed: float) -> str:
    """How long a stretch of event time takes at the world's speed, for a person."""
    seconds = stretch.total_seconds() / speed
    return f"{seconds:.0f} s" if seconds < 2 * _MANY else f"{seconds / _MANY:.0f} min"


def _performance_chart(performance: Performance, report: MonitoringReport) -> str | None:
    """The primary metric by day; one line a model version. `None` if no day can carry it."""
    judged = [day for day in charted(performance) if performance.primary in day.metrics]
    versions = sorted({day.model_version for day in judged})
    series = [
        [_point(day.day, day.metrics[performance.primary], version) for day in judged if day.model_version == version]
        for version in versions
    ]
    return _by_day(series, report, target=performance.offline, name=_metric_name(performance.primary))


def charted(performance: Performance) -> list[DayFigures]:
    """The days that the chart shows: enough labels, and no pages that a link from outside filled."""
    return [day for day in performance.days if day.enough and day.model_version != OUTSIDE_LINK_SHOWN]


def _share_chart(performance: Performance, report: MonitoringReport) -> str | None:
    """The share of frauds by day; `None` if no day is mature."""
    points = [_point(day.day, day.frauds / day.payments, "all payments") for day in performance.shares]
    return _by_day([points] if points else [], report, target=None, name="share of frauds")


def _reported_chart(early: Early, report: MonitoringReport) -> str | None:
    """The frauds reported among the youngest payments, day by day at one age, with the bound."""
    now = micros(report.as_of) // MICROS_PER_DAY
    counts = early.outcomes.days
    points = [_point(now - len(counts) + i, count, "reported") for i, count in enumerate(counts)]
    name = "frauds reported among the payments of three days"
    return _by_day([points] if points else [], report, target=early.outcomes.bound, name=name)


def _point(day: int, value: float, label: str) -> svg_charts.ChartPoint:
    return svg_charts.ChartPoint(x=day + 0.5, y=value, label=f"{_day(day)}, {label}: {value:.3g}")


def _by_day(
    series: Sequence[Sequence[svg_charts.ChartPoint]], report: MonitoringReport, *, target: float | None, name: str
) -> str | None:
    days = [int(point.x) for line in series for point in line]
    if not days:
        return None
    first, last = min(days), micros(report.as_of) / MICROS_PER_DAY
    step = max(1, round((last - first) / 6))
    return svg_charts.line_chart(
        series,
        days=(first, last),
        ticks=[(day + 0.5, f"{moment_of(day * MICROS_PER_DAY):%d %b}") for day in range(first, int(last), step)],
        bands=[_band(run, report.as_of) for run in report.scenarios if _end(run, report.as_of) > first],
        target=target,
        name=f"{name} by day",
    )


def _band(run: ScenarioRun, as_of: datetime) -> svg_charts.Band:
    return svg_charts.Band(start=micros(run.started) / MICROS_PER_DAY, end=_end(run, as_of), label=run.name)


def _end(run: ScenarioRun, as_of: datetime) -> float:
    return micros(run.stopped or as_of) / MICROS_PER_DAY


def _moment(moment: datetime | None) -> str:
    return "–" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _day(day: int) -> str:
    return f"{moment_of(day * MICROS_PER_DAY):%Y-%m-%d}"


def _metric_name(name: str) -> str:
    return _METRIC_NAMES.get(name, name.replace("_", " "))


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"  # noqa: PLR2004 - digits


def _per_page(found: PerPage | None) -> str:
    return "–" if found is None else f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"
