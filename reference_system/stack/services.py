"""Services: what runs, in one declaration each.

In: settings. Out: name, command, needs, health check, address, and what a reader will see there.
Invariant: a service comes after everything it needs; supervisord starts each as `workbook run NAME`, which waits
for the needs and then becomes the command (or calls `commands/run_<name>.py: main(settings)` where there is none).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_system.errors import SetupError
from reference_system.paths import StatePaths
from reference_system.settings import LOOPBACK
from reference_system.stack.health import AcceptsConnections, AnswersHttp, HealthCheck, HeartbeatIsFresh

if TYPE_CHECKING:
    from reference_system.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One supervised process and its children."""

    name: str
    url: str
    look_at: str  # what a reader will see at the address
    health: HealthCheck
    ports: tuple[str, ...]  # names in the settings
    needs: tuple[str, ...] = ()
    command: tuple[str, ...] = ()  # empty: our own Python entry point
    # A platform service needs no model and no history: it starts before the bootstrap and stops last.
    platform: bool = False
    stop_seconds: int = 10  # between the request to stop and the kill


def services(settings: Settings) -> tuple[Service, ...]:
    """Every service, in the order of starting."""
    return (
        _kafka(settings),
        _mlflow(settings),
        _prefect(settings),
        _serving(settings),
        _own(settings, "ingestion", needs=("kafka",), look_at="metrics: events counted, dead-lettered, freshness"),
        _own(settings, "world", needs=("kafka",), look_at="metrics: the simulated clock and what it produced"),
        _own(settings, "flows", needs=("prefect", "mlflow"), look_at="metrics: the last monitoring run"),
    )


def service_named(settings: Settings, name: str) -> Service:
    """The service with that name.

    Raises:
        SetupError: there is none; the message lists those that exist.
    """
    known = {service.name: service for service in services(settings)}
    if name not in known:
        raise SetupError(
            f"there is no service called {name!r} (there are {', '.join(known)})", next_command="workbook status"
        )
    return known[name]


def find_service(settings: Settings, name: str) -> Service | None:
    """The service with that name, or `None`: bring-up steps are processes and no services."""
    return next((service for service in services(settings) if service.name == name), None)


def _kafka(settings: Settings) -> Service:
    return Service(
        name="kafka",
        url=settings.kafka_bootstrap,
        look_at="the event topics (any Kafka client)",
        health=AcceptsConnections(settings.port("kafka")),
        ports=("kafka", "kafka_controller"),
        platform=True,
        stop_seconds=20,  # it closes its logs cleanly, or spends the next start checking them
    )


def _mlflow(settings: Settings) -> Service:
    home, port = StatePaths(settings.state_dir).mlflow, settings.port("mlflow")
    hosts = (f"{LOOPBACK}:{port}", f"localhost:{port}")
    return Service(
        name="mlflow",
        # Its start page opens on an assistant for language models.
        url=f"{settings.url('mlflow')}/#/experiments",
        look_at="experiments and runs; models and their aliases at /#/models",
        health=AnswersHttp(port, "/health"),
        ports=("mlflow",),
        command=(
            *_python("mlflow", "server"),
            *("--host", LOOPBACK, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"),
            *("--artifacts-destination", str(home / "artifacts")),
            *("--allowed-hosts", ",".join(hosts)),
            *("--cors-allowed-origins", ",".join(f"http://{host}" for host in hosts)),
        ),
        platform=True,
    )


def _prefect(settings: Settings) -> Service:
    port = settings.port("prefect")
    return Service(
        name="prefect",
        url=settings.url("prefect"),
        look_at="flow runs, schedules, logs; start a run by hand",
        health=AnswersHttp(port, "/api/health"),
        ports=("prefect",),
        command=(*_python("prefect", "server", "start"), "--host", LOOPBACK, "--port", str(port)),
        platform=True,
    )


def _serving(settings: Settings) -> Service:
    port = settings.port("serving")
    return Service(
        name="serving",
        url=settings.url("serving"),
        look_at="POST /v1/fraud/score, POST /v1/recommendations, /metrics",
        health=AnswersHttp(port, "/readyz"),
        ports=("serving",),
        # It needs no other service to start: it answers from the last verified bundle and spools its log.
        command=(
            *_python("bentoml", "serve", "reference_system.serving.bentoml_service:RealTime"),
            *("--host", LOOPBACK, "--port", str(port)),
            # Without a bound it waits for clients that keep their connection, for as long as they like.
            *("--timeout-graceful-shutdown", "3"),
        ),
    )


def _own(settings: Settings, name: str, *, needs: tuple[str, ...], look_at: str) -> Service:
    """A process of ours with a metrics page and a heartbeat."""
    port = f"{name}_metrics"
    return Service(
        name=name,
        url=f"{settings.url(port)}/metrics",
        look_at=look_at,
        health=HeartbeatIsFresh(settings.port(port)),
        ports=(port,),
        needs=needs,
    )


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    # `-m` and not the script in `.venv/bin`: a long path makes the script's first line too long for the kernel.
    return (sys.executable, "-m", module, *arguments)
