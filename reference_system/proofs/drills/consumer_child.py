"""A consumer in a separate process, to be killed by a drill.

In: a plan. Out: an exit code, and the files that a kill left behind.
Invariant: the process runs the same code as `workbook run ingestion`. It ends when the drill that started it ends, in
any way.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry

# Everything that a consumer needs is imported here, once, before it is forked.
from reference_system.clock import FixedClock
from reference_system.errors import ServiceError, StateError
from reference_system.features.feast.store import open_store, write_states
from reference_system.features.stream.deduplication import Outcome
from reference_system.flows.ingestion.loop import FaultPoint
from reference_system.flows.ingestion.setup import open_loop
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.paths import StatePaths
from reference_system.proofs.baselines.feast_naive_push import open_naive_push
from reference_system.proofs.baselines.kafka_naive_consumer import NaiveConsumer
from reference_system.proofs.drills.traffic import LAST_MOMENT
from reference_system.settings import Settings
from reference_system.use_cases import TOPICS

# Exit codes. After a kill it is the negative number of the signal.
DONE, REFUSED, BROKER_AWAY = 0, 3, 4
# The only point that the naive consumer has: the online store has the event, the offset is not committed.
NAIVE_POINT: FaultPoint = "states pushed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A signal that the process sends to itself when it passes a point for the n-th time."""

    point: FaultPoint
    passage: int
    signal: signal.Signals = signal.SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerPlan:
    """The configuration of a consumer; without `tasks` it has all."""

    settings: Settings
    tasks: tuple[int, ...] | None = None
    fault: Fault | None = None
    until_caught_up: bool = False
    naive: bool = False


class _Consumer(Protocol):
    def step(self) -> int: ...

    def caught_up(self) -> bool: ...


def consume(plan: ConsumerPlan) -> None:
    """Run the consumer; the exit code states how it ended."""
    _write_to(plan.settings.state_dir / "consumers.log")
    try:
        with _opened(plan) as (consumer, finish):
            _run(consumer, until_caught_up=plan.until_caught_up)
            finish()
    except StateError as error:
        _end(REFUSED, error)
    except ServiceError as error:
        _end(BROKER_AWAY, error)


def _run(consumer: _Consumer, *, until_caught_up: bool) -> None:
    drill = parent_process()
    while drill is None or drill.is_alive():
        taken = consumer.step()
        if until_caught_up and not taken and consumer.caught_up():
            return


@contextmanager
def _opened(plan: ConsumerPlan) -> Iterator[tuple[_Consumer, Callable[[], None]]]:
    settings, paths = plan.settings, StatePaths(plan.settings.state_dir)
    if plan.naive:
        push = open_naive_push(naive_folder(settings))
        pushed = partial(_signal_at(plan.fault), NAIVE_POINT)
        tally = naive_tally(settings)
        where = settings.kafka_bootstrap, TOPICS, settings.kafka_partitions
        with NaiveConsumer(*where, tally, push, pushed=pushed) as naive:
            yield naive, lambda: None
        return
    metrics = IngestionMetrics(TOPICS, Outcome, registry=CollectorRegistry())
    with open_loop(
        settings,
        push=partial(write_states, open_store(paths)),
        metrics=metrics,
        clock=FixedClock(LAST_MOMENT),
        tasks=plan.tasks,
        fault=_signal_at(plan.fault),
    ) as loop:
        yield loop, loop.finish


def naive_folder(settings: Settings) -> Path:
    """The folder of the naive consumer's Feast."""
    return settings.state_dir / "naive" / "feast"


def naive_tally(settings: Settings) -> Path:
    """The naive consumer's SQLite file of counts."""
    return settings.state_dir / "naive" / "tally.sqlite"


def _signal_at(fault: Fault | None) -> Callable[[FaultPoint], None]:
    passages = 0

    def pass_by(point: FaultPoint) -> None:
        nonlocal passages
        if fault is None or point != fault.point:
            return
        passages += 1
        if passages == fault.passage:
            os.kill(os.getpid(), fault.signal)

    return pass_by


def _write_to(log: Path) -> None:
    """Redirect the consumers' output to one file; the terminal is for the drill."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)


def _end(code: int, error: Exception) -> None:
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    sys.stderr.flush()
    raise SystemExit(code) from error
