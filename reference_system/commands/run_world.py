"""`workbook run world`: the process that lets the world live and owns the clock."""

from __future__ import annotations

import signal
from threading import Event as Flag
from time import monotonic
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from reference_system.settings import Settings
    from reference_system.world.live import LiveWorld

TICK_SECONDS = 0.25
_RETRY_SECONDS = 1.0


def main(settings: Settings) -> None:
    """Be the world until somebody asks to stop."""
    from reference_system.paths import StatePaths
    from reference_system.process_metrics import serve_metrics
    from reference_system.use_cases import EVENT_TOPICS
    from reference_system.windows import moment_of
    from reference_system.world.checkpoint import restore
    from reference_system.world.http_serving import ServingClient
    from reference_system.world.kafka_publisher import KafkaPublisher
    from reference_system.world.live import LiveWorld
    from reference_system.world.prometheus_metrics import WorldMetrics

    stop = Flag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    world, released = restore(StatePaths(settings.state_dir).world, settings)
    serve_metrics(settings.port("world_metrics"))
    metrics = WorldMetrics(EVENT_TOPICS)
    with (
        KafkaPublisher(settings.kafka_bootstrap) as publisher,
        ServingClient(settings.url("serving"), metrics.count_request) as serving,
    ):
        live = LiveWorld(
            settings=settings, world=world, released=released, publisher=publisher, serving=serving, metrics=metrics
        )
        typer.echo(f"the world goes on at {moment_of(released):%Y-%m-%d %H:%M} UTC, {settings.speed:g} x")
        run(live, stop)
    typer.echo(f"stopped: everything up to {moment_of(live.released):%Y-%m-%d %H:%M} UTC is published")


def run(live: LiveWorld, stop: Flag) -> None:
    """Tick until somebody asks to stop; then let the clock stand still."""
    from reference_system.process_metrics import beat

    def keep_on(problem: str) -> bool:
        """Whether to try again: as long as nobody asks to stop. Meanwhile no heartbeat of the clock: time waits."""
        typer.echo(problem, err=True)
        beat()
        return not stop.wait(_RETRY_SECONDS)

    live.start_clock()
    while not stop.is_set():
        began = monotonic()
        if not live.tick(keep_on):
            break
        beat()
        stop.wait(max(TICK_SECONDS - (monotonic() - began), 0.0))
    live.stop_clock()
