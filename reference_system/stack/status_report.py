"""What runs, how it is and what it has done: the answer of `workbook status`.

In: the supervisor, the health checks, the metrics pages, the broker. Out: one record.
Invariant: a figure that cannot be had is absent, never zero and never guessed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from reference_system.clock import SimulatedClock
from reference_system.errors import StateError, WorkbookError
from reference_system.paths import StatePaths
from reference_system.stack.disk_use import DiskUse, disk_use
from reference_system.stack.metrics_page import read_metrics
from reference_system.stack.processes import marked_processes, resident_mb
from reference_system.stack.services import services
from reference_system.stack.supervisor.client import ALIVE_STATES, NotAnswering, Supervisor
from reference_system.use_cases import TOPICS

if TYPE_CHECKING:
    from reference_system.settings import Settings
    from reference_system.stack.services import Service
    from reference_system.stack.supervisor.client import Supervised

HEALTHY = "healthy"
ORPHANED = "orphaned"


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One service. `state`: healthy, starting, unhealthy, restarting, failed, stopped, or orphaned.

    An orphaned one runs, but its supervisor is gone: nobody would start it again.
    """

    name: str
    state: str
    url: str
    pid: int | None = None
    rss_mb: float | None = None


class EventCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The ledger: acknowledged by the broker, and what ingestion made of it."""

    acknowledged: int | None = None
    counted: int | None = None
    dead_lettered: int | None = None
    late: int | None = None


class FreshnessStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """From an event to the value that serving can read, in real milliseconds."""

    p50: float | None = None
    p99: float | None = None


class StatusReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `workbook status --json` prints."""

    services: list[ServiceStatus]
    clock: str | None
    events: EventCounts
    freshness_ms: FreshnessStatus
    disk: DiskUse

    @property
    def all_healthy(self) -> bool:
        """Whether every service passes its check."""
        return all(service.state == HEALTHY for service in self.services)


def status_report(settings: Settings) -> StatusReport:
    """Look at everything once."""
    found = service_states(settings)
    events, freshness = _ingestion_figures(settings)
    if any(service.name == "kafka" and service.state == HEALTHY for service in found):
        events = msgspec.structs.replace(events, acknowledged=_acknowledged(settings))
    return StatusReport(
        services=found,
        clock=_event_time(settings),
        events=events,
        freshness_ms=freshness,
        disk=disk_use(settings.state_dir, least_free_mb=settings.least_free_mb),
    )


def service_states(settings: Settings) -> list[ServiceStatus]:
    """Every service with its state, and its process where it has one."""
    try:
        supervised = Supervisor(settings).processes()
    except NotAnswering:
        return _without_supervisor(settings)
    return [_service_status(settings, service, supervised.get(service.name)) for service in services(settings)]


def _without_supervisor(settings: Settings) -> list[ServiceStatus]:
    """Nothing runs, or what a killed supervisor left behind."""
    pids: dict[str, int] = {}
    for found in marked_processes(settings.state_dir):
        pids.setdefault(found.service, found.pid)  # in order of their pids: a parent comes before its workers
    return [
        ServiceStatus(
            name=service.name,
            state="stopped" if (pid := pids.get(service.name)) is None else ORPHANED,
            url=service.url,
            pid=pid,
            rss_mb=None if pid is None else resident_mb(pid),
        )
        for service in services(settings)
    ]


def _service_status(settings: Settings, service: Service, process: Supervised | None) -> ServiceStatus:
    pid = process.pid if process is not None else None
    return ServiceStatus(
        name=service.name,
        state=_state(settings, service, process),
        url=service.url,
        pid=pid,
        rss_mb=resident_mb(pid) if pid is not None else None,
    )


def _state(settings: Settings, service: Service, process: Supervised | None) -> str:
    if process is None or process.state not in ALIVE_STATES:
        return "failed" if process is not None and process.state == "FATAL" else "stopped"
    if process.state == "BACKOFF":
        return "restarting"
    # While it is STARTING, the leftover of a killed one may answer in its place.
    if process.state == "RUNNING" and service.health.problem() is None:
        return HEALTHY
    return "starting" if process.now - process.started <= settings.ready_seconds else "unhealthy"


def _event_time(settings: Settings) -> str | None:
    try:
        return SimulatedClock(StatePaths(settings.state_dir).clock).now().isoformat(timespec="seconds")
    except (OSError, StateError):
        return None


def _acknowledged(settings: Settings) -> int | None:
    from reference_system.stack.kafka.topics import end_offsets

    try:
        return sum(end_offsets(settings.kafka_bootstrap, [topic.name for topic in TOPICS]).values())
    except (WorkbookError, RuntimeError):  # the Kafka client's own errors are RuntimeErrors
        return None


def _ingestion_figures(settings: Settings) -> tuple[EventCounts, FreshnessStatus]:
    try:
        page = read_metrics(settings.port("ingestion_metrics"))
    except OSError:
        return EventCounts(), FreshnessStatus()

    def count(outcome: str) -> int | None:
        value = page.total("workbook_events_total", outcome=outcome)
        return None if value is None else int(value)

    def milliseconds(quantile: str) -> float | None:
        value = page.value("workbook_freshness_ms", quantile=quantile)
        return None if value is None or value != value else round(value, 1)  # noqa: PLR0124 - NaN: no event yet

    return (
        EventCounts(counted=count("counted"), dead_lettered=count("dead_lettered"), late=count("late")),
        FreshnessStatus(p50=milliseconds("0.5"), p99=milliseconds("0.99")),
    )
