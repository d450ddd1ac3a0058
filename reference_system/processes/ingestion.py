"""`workbook run ingestion`: the process that consumes every topic.

In: the settings. Out: the loop of `flows/ingestion/loop.py`, until SIGTERM.
Invariant: SIGTERM ends it within five seconds with nothing pending; so does a kill, only less politely.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from reference_system.flows.ingestion.loop import IngestionLoop
    from reference_system.paths import StatePaths
    from reference_system.settings import Settings


def main(settings: Settings) -> None:
    """Be the ingestion process.

    Raises:
        StateError: if there is no clock to tell the event time.
    """
    from reference_system.errors import StateError
    from reference_system.paths import StatePaths

    stop = StopSignal()
    paths = StatePaths(settings.state_dir)
    if not paths.clock.exists():
        raise StateError(f"no world ever ran here: there is no {paths.clock}", next_command="make up")
    _consume(settings, paths, stop)
    _say("stopped: everything that was read is stored")


def _consume(settings: Settings, paths: StatePaths, stop: StopSignal) -> None:
    from reference_system.clock import SimulatedClock
    from reference_system.features.feast.store import open_store, write_states
    from reference_system.features.stream.deduplication import Outcome
    from reference_system.flows.ingestion.setup import open_loop
    from reference_system.ingestion.prometheus_metrics import IngestionMetrics
    from reference_system.stack.process_metrics import serve_metrics
    from reference_system.use_cases import TOPICS

    push = partial(write_states, open_store(paths))
    metrics = IngestionMetrics(TOPICS, Outcome)
    clock = SimulatedClock(paths.clock)
    tasks = settings.owned_tasks
    with open_loop(settings, push=push, metrics=metrics, clock=clock, tasks=tasks, report=_say) as loop:
        # Healthy means consuming: the page comes up with the first poll, not with the process.
        serve_metrics(settings.port("ingestion_metrics"))
        _say(f"consuming {len(TOPICS)} topics of {settings.kafka_bootstrap}, tasks {', '.join(map(str, tasks))}")
        _run(loop, stop)


class StopSignal:
    """Whether somebody asked the process to stop."""

    def __init__(self) -> None:
        """Listen for SIGTERM and Ctrl-C; until `running` is set they end the process at once."""
        self.asked = False
        self.running = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        if not self.running:
            raise SystemExit(0)
        self.asked = True


def _run(loop: IngestionLoop, stop: StopSignal) -> None:
    from reference_system.flows.ingestion.setup import few_collections
    from reference_system.stack.process_metrics import beat

    with few_collections():
        loop.report()
        stop.running = True
        while not stop.asked:
            loop.step()
            beat()
        loop.finish()


def _say(line: str) -> None:
    from reference_system.stack.process_metrics import beat

    beat()
    typer.echo(line)
