"""What ingestion says of the events, for monitoring: how fresh they are, and what was refused.

In: ingestion's metrics page, the dead-letter topics, the last report. Out: freshness and refused records.
Invariant: a process that does not answer is said to be silent; nothing is guessed for it.
"""

from __future__ import annotations

from reference_system.errors import ServiceError
from reference_system.flows.prefect_steps import warn
from reference_system.ingestion.dead_letters.kafka_reader import DeadLetter, read_shelf
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.monitoring.report.record import Freshness, MonitoringReport
from reference_system.monitoring.schema_watch import Refusals, since, with_reasons
from reference_system.settings import Settings
from reference_system.stack.metrics_page import MetricsPage, read_metrics
from reference_system.use_cases import TOPICS, topic_named


def watch_events(settings: Settings, last: MonitoringReport | None) -> tuple[Freshness, tuple[Refusals, ...]]:
    """Freshness, and the refused records since the last report."""
    try:
        page = read_metrics(settings.port("ingestion_metrics"))
    except OSError:
        silent = "Freshness is not known: ingestion does not answer (see workbook status)."
        return Freshness(statement=silent), last.refusals if last else ()
    return freshness_of(page, settings.speed), _refusals(settings, page, last)


def freshness_of(page: MetricsPage, speed: float) -> Freshness:
    """From the producer's send to readable in the online store, as ingestion measures it."""
    p50, p99 = (page.value("workbook_freshness_ms", quantile=quantile) for quantile in ("0.5", "0.99"))
    if p50 is None or p99 is None:
        return Freshness(statement="Freshness is not known: no event has arrived since ingestion started.")
    return Freshness(
        p50_ms=p50,
        p99_ms=p99,
        statement=f"At the world's speed the p99 is {p99 * speed / 60_000:.1f} min of event time.",
    )


def _refusals(settings: Settings, page: MetricsPage, last: MonitoringReport | None) -> tuple[Refusals, ...]:
    totals = {
        topic.name: (
            int(page.total("workbook_events_total", topic=topic.name, outcome="counted") or 0),
            int(page.total("workbook_events_total", topic=topic.name, outcome="dead_lettered") or 0),
        )
        for topic in TOPICS
    }
    found = since(last.refusals if last else (), totals)
    if not any(each.new for each in found):
        return found
    try:
        with TopicLog(settings.kafka_bootstrap) as log:
            return tuple(_with_reasons(log, each) if each.new else each for each in found)
    except ServiceError as error:
        warn(f"the reasons of refused records are not known: {error}")
        return found


def _with_reasons(log: TopicLog, refused: Refusals) -> Refusals:
    letters = [each for each in read_shelf(log, topic_named(refused.topic)) if isinstance(each, DeadLetter)]
    return with_reasons(refused, [each.error_class for each in sorted(letters, key=lambda each: each.sent_ms)])
