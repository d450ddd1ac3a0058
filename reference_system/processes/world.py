"""`workbook run world`: the process that lets the world live and owns the clock."""

from __future__ import annotations

import signal
from functools import partial
from threading import Event as Flag
from time import monotonic
from typing import TYPE_CHECKING, Protocol

import typer

if TYPE_CHECKING:
    from reference_system.settings import Settings
    from reference_system.world.live import LiveWorld

TICK_SECONDS = 0.25
_RETRY_SECONDS = 1.0


def main(settings: Settings) -> None:
    """Be the world until somebody asks to stop."""
    from reference_system.event_time import moment_of
    from reference_system.paths import StatePaths
    from reference_system.stack.disk_use import lack_of_room
    from reference_system.stack.process_metrics import serve_metrics
    from reference_system.use_cases import EVENT_TOPICS
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
        run(live, stop, room=partial(lack_of_room, settings.state_dir, least_free_mb=settings.least_free_mb))
    typer.echo(f"stopped: everything up to {moment_of(live.released):%Y-%m-%d %H:%M} UTC is published")


class Room(Protocol):
    """Whether there is room on the disk."""

    def __call__(self, *, stands: bool) -> str | None:
        """Why not; `stands` says whether the world stands because of it."""
        ...


def run(live: LiveWorld, stop: Flag, *, room: Room = lambda *, stands: None) -> None:  # noqa: ARG005 - no bound
    """Tick until somebody asks to stop; then let the clock stand still.

    Where there is no room on the disk nothing is produced and the clock stands still, until there is.
    """
    from reference_system.stack.process_metrics import beat

    def keep_on(problem: str) -> bool:
        """Whether to try again: as long as nobody asks to stop. Meanwhile no heartbeat of the clock: time waits."""
        typer.echo(problem, err=True)
        beat()
        return not stop.wait(_RETRY_SECONDS)

    live.start_clock()
    while not stop.is_set():
        if (problem := room(stands=False)) is not None:
            _stand_still(live, stop, room, problem)
            continue
        began = monotonic()
        if not live.tick(keep_on):
            break
        beat()
        stop.wait(max(TICK_SECONDS - (monotonic() - began), 0.0))
    live.stop_clock()


def _stand_still(live: LiveWorld, stop: Flag, room: Room, problem: str) -> None:
    """Wait for room on the disk; everybody else goes on."""
    from reference_system.stack.process_metrics import beat

    live.stop_clock()
    typer.echo(problem, err=True)
    while not stop.wait(_RETRY_SECONDS):
        beat()
        if room(stands=True) is None:
            typer.echo("there is room on the disk again: the world goes on", err=True)
            live.start_clock()
            return
