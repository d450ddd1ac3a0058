from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from reference_system.clock import Heartbeat, wall_seconds, write_heartbeat
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.stack import status_report as module
from reference_system.stack.metrics_page import MetricsPage
from reference_system.stack.services import service_named
from reference_system.stack.status_report import HEALTHY, status_report
from reference_system.stack.supervisor.client import Supervised


def test_without_a_system_every_figure_is_absent_and_none_is_zero(settings: Settings) -> None:
    report = msgspec.to_builtins(status_report(settings))

    assert list(report) == ["services", "clock", "events", "freshness_ms", "disk"]
    assert report["clock"] is None
    assert report["events"] == {}
    assert report["freshness_ms"] == {}
    assert [set(service) for service in report["services"]] == [{"name", "state", "url"}] * 7


def test_the_clock_is_event_time(settings: Settings) -> None:
    noon = datetime(2025, 4, 6, 12, 0, tzinfo=UTC)
    beat = Heartbeat(event_time=noon, wall_seconds=wall_seconds(), speed=0.0)
    write_heartbeat(StatePaths(settings.state_dir).clock, beat)

    assert status_report(settings).clock == "2025-04-06T12:00:00+00:00"


def test_the_ledger_and_freshness_come_from_ingestion(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(topic: str, outcome: str) -> tuple[str, frozenset[tuple[str, str]]]:
        return "workbook_events_total", frozenset({"topic": topic, "outcome": outcome}.items())

    page = MetricsPage(
        {
            sample("watches", "counted"): 40.0,
            sample("transactions", "counted"): 2.0,
            sample("transactions", "dead_lettered"): 1.0,
            ("workbook_freshness_ms", frozenset({("quantile", "0.5")})): 120.26,
            ("workbook_freshness_ms", frozenset({("quantile", "0.99")})): float("nan"),
        }
    )
    monkeypatch.setattr(module, "read_metrics", lambda _: page)

    report = msgspec.to_builtins(status_report(settings))

    assert report["events"] == {"counted": 42, "dead_lettered": 1}
    assert report["freshness_ms"] == {"p50": 120.3}


class Check:
    def __init__(self, problem: str | None) -> None:
        self._problem = problem

    def problem(self) -> str | None:
        return self._problem


@pytest.mark.parametrize(
    ("process_state", "age", "problem", "expected"),
    [
        ("RUNNING", 1, None, HEALTHY),
        ("STARTING", 1, None, "starting"),
        ("RUNNING", 10, "port does not answer", "starting"),
        ("RUNNING", 1_000, "port does not answer", "unhealthy"),
        ("BACKOFF", 1, "port does not answer", "restarting"),
        ("FATAL", 1, "port does not answer", "failed"),
        ("STOPPED", 1, None, "stopped"),
    ],
)
def test_the_state_of_a_service(
    settings: Settings, process_state: str, age: int, problem: str | None, expected: str
) -> None:
    kafka = service_named(settings, "kafka")
    service = type(kafka)(
        **{name: getattr(kafka, name) for name in kafka.__slots__ if name != "health"}, health=Check(problem)
    )
    process = Supervised(name="kafka", state=process_state, pid=1, started=5_000 - age, now=5_000, detail="")

    assert module._state(settings, service, process) == expected
