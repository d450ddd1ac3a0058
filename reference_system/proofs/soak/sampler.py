"""Samples of a live system: its resource use and its lag at one time.

In: a state directory and its services, observed from outside. Out: figures by name.
Invariant: a figure that is not available is absent; the system is not changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import psutil

from reference_system.clock import SimulatedClock
from reference_system.errors import StateError
from reference_system.lake.delta_upkeep import live_files
from reference_system.monitoring.report.record import read_latest
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.stack.disk_use import MB, disk_use
from reference_system.stack.metrics_page import read_metrics
from reference_system.stack.processes import marked_processes
from reference_system.stack.services import services
from reference_system.use_cases import TOPICS

LOCKED, TRACEBACK = b"database is locked", b"Traceback (most recent call last)"
_HOUR = timedelta(hours=1)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One sample; `seconds` is real time since the start."""

    seconds: float
    event_time: datetime | None
    figures: Mapping[str, float]


class _Complete(msgspec.Struct):
    """The time up to which the feature tables are complete."""

    end: datetime


@dataclass(slots=True)
class Sampler:
    """Takes samples; keeps how far each log was read and how many error lines it had."""

    settings: Settings
    _logs: dict[Path, int] = field(default_factory=dict)
    _lines: dict[bytes, int] = field(default_factory=lambda: {LOCKED: 0, TRACEBACK: 0})

    def look(self, seconds: float) -> Sample:
        """Take one sample of all figures."""
        paths = StatePaths(self.settings.state_dir)
        now = _event_time(paths)
        figures: dict[str, float] = dict(_processes(self.settings))
        figures |= _disk(self.settings)
        figures |= _files(paths.lake)
        figures |= _ingestion(self.settings)
        figures |= self._log_lines(paths.logs)
        if now is not None:
            figures |= _behind(paths, now)
        return Sample(seconds=round(seconds, 1), event_time=now, figures=figures)

    def _log_lines(self, logs: Path) -> Iterator[tuple[str, float]]:
        """Error lines since the first sample; a rotated log is read from its beginning."""
        for log in logs.glob("*.log"):
            size = log.stat().st_size
            before = self._logs.get(log, 0)
            with log.open("rb") as file:
                file.seek(before if before <= size else 0)
                text = file.read()
            self._logs[log] = size
            for kind in self._lines:
                self._lines[kind] += text.count(kind)
        yield "locked databases", self._lines[LOCKED]
        yield "tracebacks", self._lines[TRACEBACK]


def _processes(settings: Settings) -> Iterator[tuple[str, float]]:
    """Memory and CPU time of each service, including its child processes."""
    memory, cpu = defaultdict[str, float](float), defaultdict[str, float](float)
    for marked in marked_processes(settings.state_dir):
        try:
            process = psutil.Process(marked.pid)
            times, taken = process.cpu_times(), _private_mb(process)
        except psutil.Error:
            continue  # it ended in the meantime
        # The CPU time of an ended child counts for its parent: a training runs in a separate process.
        cpu[marked.service] += times.user + times.system + times.children_user + times.children_system
        memory[marked.service] += taken
    yield "services", len({service.name for service in services(settings)} & memory.keys())
    for service, taken in memory.items():
        yield f"memory of {service} (MB)", round(taken, 1)
        yield f"cpu of {service} (s)", round(cpu[service], 2)
    yield "memory of all (MB)", round(sum(memory.values()), 1)
    yield "cpu of all (s)", round(sum(cpu.values()), 2)


def _private_mb(process: psutil.Process) -> float:
    """Proportional set size (PSS) where the system reports it, else resident memory."""
    try:
        shared = getattr(process.memory_full_info(), "pss", None)
    except psutil.AccessDenied:
        shared = None
    return float(process.memory_info().rss if shared is None else shared) / MB


def _disk(settings: Settings) -> Iterator[tuple[str, float]]:
    use = disk_use(settings.state_dir, least_free_mb=settings.least_free_mb)
    for name, size in use.parts.items():
        yield f"disk of {name} (MB)", size
    yield "disk of all (MB)", round(use.total_mb, 1)


def _files(lake: Path) -> Iterator[tuple[str, float]]:
    """Parquet files of the lake: on disk, live, and in excess of one per day and table."""
    live, days = (sum(counts) for counts in zip(*(live_files(lake, topic) for topic in TOPICS), strict=True))
    disk = sum(1 for _ in lake.glob("*/event_day=*/*.parquet"))
    yield "files on disk", disk
    yield "live files", live
    yield "small files", disk - days


def _ingestion(settings: Settings) -> Iterator[tuple[str, float]]:
    try:
        page = read_metrics(settings.port("ingestion_metrics"))
    except OSError:
        return
    lag, fresh = page.total("workbook_consumer_lag"), page.value("workbook_freshness_ms", quantile="0.99")
    if lag is not None:
        yield "records waiting", lag
    if fresh is not None and fresh == fresh:  # noqa: PLR0124 - NaN: no event yet
        yield "freshness p99 (ms)", round(fresh, 1)


def _behind(paths: StatePaths, now: datetime) -> Iterator[tuple[str, float]]:
    """Lag of the newest results behind the world, in simulated hours."""
    report, mark = read_latest(paths.reports), paths.feature_tables / "etl.json"
    if report is not None:
        yield "monitor behind (h)", round((now - report.as_of) / _HOUR, 2)
    if mark.exists():
        yield "etl behind (h)", round((now - msgspec.json.decode(mark.read_bytes(), type=_Complete).end) / _HOUR, 2)


def _event_time(paths: StatePaths) -> datetime | None:
    try:
        return SimulatedClock(paths.clock).now()
    except (OSError, StateError):
        return None
