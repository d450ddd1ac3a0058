"""Opening ingestion: task states, lake, broker, joined into a loop that goes on where the last one stopped.

In: the settings. Out: an `IngestionLoop`.
Invariant: a task file that is missing, damaged or made for other declarations is built from the lake first.
"""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from time import monotonic

from reference_system.clock import Clock
from reference_system.errors import StateError
from reference_system.events import REPARTITION_TOPIC, PartitionKey
from reference_system.features.stream.rebuild import is_current, rebuild_tasks
from reference_system.features.stream.snapshot import task_file
from reference_system.features.stream.state import StreamState
from reference_system.flows.ingestion.loop import FaultPoint, IngestionLoop, PushStates, starts
from reference_system.ingestion.dead_letters.kafka_reader import count_dead_letters
from reference_system.ingestion.dead_letters.kafka_writer import DeadLetters
from reference_system.ingestion.delta_sink import DeltaSink
from reference_system.ingestion.kafka_consumer import EventSource
from reference_system.ingestion.kafka_repartition import RowForwarder
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.use_cases import TOPICS, VIEWS

_OBJECTS_BETWEEN_COLLECTIONS = 100_000


@contextmanager
def few_collections() -> Iterator[None]:
    """Python's collector as a consumer needs it.

    What was imported and built stays: it need not be looked at again. What a poll makes dies with it, by its reference
    counts: looking for cycles after every 700 objects is a third of the whole cost of catching up.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        # Frozen objects are not taken down at exit, and DuckDB complains about that at length.
        gc.unfreeze()


def open_tasks(
    settings: Settings, tasks: Collection[int], report: Callable[[str], None] = lambda _: None
) -> dict[int, StreamState]:
    """The states of some tasks, each under a new epoch.

    Raises:
        StateError: if a file cannot be read.
    """
    paths, count = StatePaths(settings.state_dir), settings.kafka_partitions
    files = {task: task_file(paths.stream_tasks, task) for task in sorted(tasks)}
    try:
        missing = [task for task, path in files.items() if not is_current(path, VIEWS, count)]
    except sqlite3.DatabaseError as error:
        folder = paths.stream_tasks
        raise StateError(
            f"a task file in {folder} cannot be read ({error})", next_command=f"rm -r {folder}"
        ) from error
    if missing:
        refused = partial(count_dead_letters, settings.kafka_bootstrap, TOPICS)
        rebuild_tasks(
            paths.stream_tasks,
            paths.lake,
            TOPICS,
            VIEWS,
            build=missing,
            tasks=count,
            count_dead_letters=refused,
            report=report,
        )
    return {task: StreamState(path, VIEWS, task=task, tasks=count) for task, path in files.items()}


@contextmanager
def open_loop(  # noqa: PLR0913 - what differs between a service, a test and a drill
    settings: Settings,
    *,
    push: PushStates,
    metrics: IngestionMetrics,
    clock: Clock,
    tasks: Collection[int] | None = None,
    fault: Callable[[FaultPoint], None] = lambda _: None,
    report: Callable[[str], None] = lambda _: None,
) -> Iterator[IngestionLoop]:
    """The loop over the broker and the state directory of the settings, standing where the last one stopped.

    Args:
        settings: where everything is.
        push: writes states to the online store.
        metrics: what the loop tells about itself.
        clock: the event clock.
        tasks: those that this consumer owns; by default all.
        fault: called at each fault point.
        report: told what a start from the lake does.
    """
    owned = range(settings.kafka_partitions) if tasks is None else tasks
    lake = StatePaths(settings.state_dir).lake
    with ExitStack() as opened:
        states = open_tasks(settings, owned, report)
        for state in states.values():
            opened.enter_context(closing(state))
        sink = DeltaSink(lake, TOPICS, now=monotonic())
        reached = {(topic, task): n for task, state in states.items() for topic, n in state.next_offsets().items()}
        begin: dict[PartitionKey, int | None] = dict(starts(reached, sink.next_offsets()))
        # The lake has no rows of the repartition topic: there the states alone say where to begin. One that was built
        # from the lake begins with what the broker holds: it knows which rows it has.
        begin |= {(REPARTITION_TOPIC, task): reached.get((REPARTITION_TOPIC, task)) or None for task in owned}
        topics = [*(topic.name for topic in TOPICS), REPARTITION_TOPIC]
        bootstrap = settings.kafka_bootstrap
        source = opened.enter_context(EventSource(bootstrap, topics, owned, begin))
        dead_letters = opened.enter_context(DeadLetters(bootstrap, {topic.name: topic for topic in TOPICS}))
        forwarder = opened.enter_context(RowForwarder(bootstrap, REPARTITION_TOPIC))
        yield IngestionLoop(
            topics=TOPICS,
            source=source,
            dead_letters=dead_letters,
            tasks=states,
            forwarder=forwarder,
            sink=sink,
            push=push,
            metrics=metrics,
            clock=clock,
            fault=fault,
        )
