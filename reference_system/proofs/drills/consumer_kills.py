"""Drills on consumers: killed while they work, or paused until another one has taken their tasks.

In: a stage, a number of times. Out: a report.
Invariant: the seed determines which consumer is killed, where and after how long; timings differ between machines,
the report must not.
"""

from __future__ import annotations

import signal
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from time import monotonic, sleep
from typing import get_args

import msgspec
import numpy as np

from reference_system.flows.ingestion.loop import FaultPoint
from reference_system.paths import StatePaths
from reference_system.proofs.drills.consumer_child import NAIVE_POINT, REFUSED, Fault
from reference_system.proofs.drills.consumer_processes import DrillConsumer
from reference_system.proofs.drills.report import DrillReport
from reference_system.proofs.drills.stage import DrillStage

POINTS: tuple[FaultPoint, ...] = get_args(FaultPoint)
AT_RANDOM = "at a random moment"
# The lake commits every two seconds; a point of the poll is reached as soon as there is traffic.
_PATIENCE_SECONDS: dict[str, float] = {"lake committed": 6.0}
_PATIENCE = 3.0
_NAIVE_PATIENCE = 60.0
_RANDOM_SECONDS = 1.5
_MOST_PASSAGES = {"lake committed": 2}
_PASSAGES = 6
# Traffic: a few events per tick, so that most polls are small and some, after a start, are large.
_TICK_SECONDS = 0.05
_MOST_EVENTS_A_TICK = 8
# Consumers that end unexpectedly more often than this show a defect, and the drill would never end.
_MOST_FAILURES = 10
_PAUSE_SECONDS = 30.0


class Doom(msgspec.Struct, frozen=True, kw_only=True):
    """When a consumer is killed: at a point, or after `seconds` at the latest."""

    fault: Fault | None
    seconds: float

    @property
    def name(self) -> str:
        """The name in the report."""
        return AT_RANDOM if self.fault is None else self.fault.point


def draw_doom(rng: np.random.Generator, number: signal.Signals = signal.SIGKILL) -> Doom:
    """A named point or a random time, all equally likely."""
    choice = int(rng.integers(len(POINTS) + 1))
    if choice == len(POINTS):
        return Doom(fault=None, seconds=float(rng.uniform(0.0, _RANDOM_SECONDS)))
    point = POINTS[choice]
    passage = int(rng.integers(1, _MOST_PASSAGES.get(point, _PASSAGES) + 1))
    fault = Fault(point=point, passage=passage, signal=number)
    return Doom(fault=fault, seconds=_PATIENCE_SECONDS.get(point, _PATIENCE))


def draw_naive_doom(rng: np.random.Generator) -> Doom:
    """The only point of the naive consumer, which is reached with the first event, even on a slow machine."""
    return Doom(fault=Fault(point=NAIVE_POINT, passage=int(rng.integers(1, _PASSAGES))), seconds=_NAIVE_PATIENCE)


def consumer_kill(stage: DrillStage, *, times: int) -> DrillReport:
    """Two consumers share the tasks; each is killed repeatedly while traffic flows."""
    faults: Counter[str] = Counter()
    problems: list[str] = []
    slots = [_Slot(stage, tasks) for tasks in ([None] if stage.mutant else stage.halves())]
    while (killed := faults.total()) < times and len(problems) < _MOST_FAILURES:
        stage.progress(0.85 * killed / times, f"{killed:,} of {times:,} consumers killed")
        began = monotonic()
        stage.feed(int(stage.rng.integers(1, _MOST_EVENTS_A_TICK + 1)))
        for slot in slots:
            ending = slot.tick()
            if ending is not None:
                (faults.update([ending]) if ending in {*POINTS, AT_RANDOM} else problems.append(ending))
        sleep(max(_TICK_SECONDS - (monotonic() - began), 0.0))
    for slot in slots:
        slot.end()
    return stage.finish("consumer-kill", faults, problems)


class _Slot:
    """A slot for a consumer, which is replaced after each kill."""

    def __init__(self, stage: DrillStage, tasks: tuple[int, ...] | None) -> None:
        self._stage = stage
        self._tasks = tasks
        self._consumer: DrillConsumer | None = None
        self._doom = Doom(fault=None, seconds=0.0)

    def tick(self) -> str | None:
        """Start, wait or kill; returns how the consumer ended, if it has."""
        consumer = self._consumer
        if consumer is None:
            self._doom = (draw_naive_doom if self._stage.mutant else draw_doom)(self._stage.rng)
            self._consumer = self._stage.fleet.start(
                replace(self._stage.plan(tasks=self._tasks), fault=self._doom.fault)
            )
            return None
        name = self._doom.name
        if consumer.exit_code is None and consumer.age > self._doom.seconds:
            # A consumer that has not reached its point is killed wherever it is.
            consumer.kill()
            name = AT_RANDOM
        if consumer.exit_code is None:
            return None
        self._consumer = None
        if consumer.exit_code != -signal.SIGKILL:
            return f"a consumer ended unexpectedly with exit code {consumer.exit_code}"
        return name

    def end(self) -> None:
        """Kill the consumer without counting it."""
        if self._consumer is not None:
            self._consumer.kill()


def zombie(stage: DrillStage, *, times: int) -> DrillReport:
    """A consumer is paused at some point of its work, another takes its tasks, the first one resumes.

    It must be refused because of its epoch, and its further writes must change nothing.
    """
    faults: Counter[str] = Counter()
    problems: list[str] = []
    for number in range(times):
        stage.progress(0.85 * number / times, f"{number} of {times} zombies refused")
        doom = draw_doom(stage.rng, signal.SIGSTOP)
        consumer = stage.fleet.start(replace(stage.plan(), fault=doom.fault))
        try:
            _feed_until_paused(stage, consumer, doom)
            # The successor takes all tasks, reads everything and stops.
            stage.settle()
            stage.feed(20)
            consumer.resume()
            ending = _feed_until_ended(stage, consumer)
        finally:
            consumer.kill()
        if ending == REFUSED:
            faults[f"{doom.name}, refused"] += 1
        else:
            problems.append(f"zombie {number} (stopped: {doom.name}) was not refused: exit code {ending}")
    return stage.finish("zombie", faults, problems)


def _feed_until_paused(stage: DrillStage, consumer: DrillConsumer, doom: Doom) -> None:
    # Long enough after its start to own the tasks: a consumer that is paused before that is no zombie.
    earliest = _PATIENCE
    while not consumer.is_paused() and consumer.exit_code is None:
        stage.feed(5)
        if consumer.age > max(doom.seconds, earliest):
            consumer.pause()
        sleep(_TICK_SECONDS)
        # A consumer paused within a transaction locks its file, so that no other can take the task: it is no zombie.
        if consumer.is_paused() and _holds_a_file(stage):
            consumer.resume()
            sleep(_TICK_SECONDS)


def _holds_a_file(stage: DrillStage) -> bool:
    """Whether a task's file is locked for writing."""
    for path in StatePaths(stage.settings.state_dir).stream_tasks.glob("task-*.sqlite"):
        try:
            with closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as db:
                db.execute("BEGIN IMMEDIATE")
                db.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


def _feed_until_ended(stage: DrillStage, consumer: DrillConsumer) -> int | None:
    deadline = monotonic() + _PAUSE_SECONDS
    while consumer.exit_code is None and monotonic() < deadline:
        stage.feed(5)
        sleep(_TICK_SECONDS)
    return consumer.exit_code
