"""`workbook run ingestion`: the process that consumes every topic.

In: the settings. Out: the loop of `flows/ingestion_loop.py`, until SIGTERM.
Invariant: SIGTERM ends it within five seconds with nothing pending; so does a kill, only less politely.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from reference_system.clock import Clock
    from reference_system.features.stream_state import StreamState
    from reference_system.flows.ingestion_loop import FaultPoint, IngestionLoop, PushStates
    from reference_system.ingestion.prometheus_metrics import IngestionMetrics
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
    from reference_system.features.feast_store import open_store, write_states
    from reference_system.features.stream_verdicts import Outcome
    from reference_system.ingestion.prometheus_metrics import IngestionMetrics
    from reference_system.process_metrics import serve_metrics
    from reference_system.use_cases import TOPICS

    push = partial(write_states, open_store(paths))
    metrics = IngestionMetrics(TOPICS, Outcome)
    with open_loop(settings, push=push, metrics=metrics, clock=SimulatedClock(paths.clock)) as loop:
        # Healthy means consuming: the page comes up with the first poll, not with the process.
        serve_metrics(settings.port("ingestion_metrics"))
        _say(f"consuming {len(TOPICS)} topics of {settings.kafka_bootstrap}")
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


def open_state(settings: Settings, paths: StatePaths) -> StreamState:
    """The stream's state; built from the lake if there is none or it was made for other declarations."""
    import sqlite3

    from reference_system.errors import StateError
    from reference_system.features.stream_rebuild import is_current, rebuild
    from reference_system.features.stream_state import StreamState
    from reference_system.ingestion.kafka_dead_letter import count_dead_letters
    from reference_system.use_cases import TOPICS, VIEWS

    path = paths.stream_state
    try:
        current = is_current(path, VIEWS)
    except sqlite3.DatabaseError as error:
        raise StateError(f"{path} cannot be read ({error})", next_command=f"rm {path}") from error
    if not current:
        count = partial(count_dead_letters, settings.kafka_bootstrap, TOPICS)
        rebuild(path, paths.lake, TOPICS, VIEWS, count_dead_letters=count, report=_say)
    return StreamState(path, VIEWS)


@contextmanager
def open_loop(
    settings: Settings,
    *,
    push: PushStates,
    metrics: IngestionMetrics,
    clock: Clock,
    fault: Callable[[FaultPoint], None] = lambda _: None,
) -> Iterator[IngestionLoop]:
    """The loop over the broker and the state directory of the settings, standing where the last one stopped."""
    from reference_system.flows.ingestion_loop import IngestionLoop, starts
    from reference_system.ingestion.delta_sink import DeltaSink
    from reference_system.ingestion.kafka_consumer import EventSource
    from reference_system.ingestion.kafka_dead_letter import DeadLetters
    from reference_system.paths import StatePaths
    from reference_system.use_cases import TOPICS

    paths = StatePaths(settings.state_dir)
    with closing(open_state(settings, paths)) as state:
        sink = DeltaSink(paths.lake, TOPICS, now=monotonic())
        begin = starts(state.next_offsets(), sink.next_offsets())
        with (
            EventSource(settings.kafka_bootstrap, TOPICS, begin) as source,
            DeadLetters(settings.kafka_bootstrap, {topic.name: topic for topic in TOPICS}) as dead_letters,
        ):
            yield IngestionLoop(
                topics=TOPICS,
                source=source,
                dead_letters=dead_letters,
                state=state,
                sink=sink,
                push=push,
                metrics=metrics,
                clock=clock,
                fault=fault,
            )


def _run(loop: IngestionLoop, stop: StopSignal) -> None:
    from reference_system.process_metrics import beat

    # What was imported and built stays: the collector need not look at it again, so no poll waits for that.
    gc.collect()
    gc.freeze()
    try:
        loop.report()
        stop.running = True
        while not stop.asked:
            loop.step()
            beat()
        loop.finish()
    finally:
        # Frozen objects are not taken down at exit, and DuckDB complains about that at length.
        gc.unfreeze()


def _say(line: str) -> None:
    from reference_system.process_metrics import beat

    beat()
    typer.echo(line)
