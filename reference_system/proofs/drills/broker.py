"""Drills on the broker: it is killed and restarted, or paused, while a producer and consumers work.

In: a stage, a number of times. Out: a report.
Invariant: acknowledged records survive a kill of the broker (its process dies, the machine does not).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event as Flag
from time import monotonic, sleep

from reference_system.proofs.drills.consumer_child import BROKER_AWAY
from reference_system.proofs.drills.consumer_processes import DrillConsumer
from reference_system.proofs.drills.report import DrillReport
from reference_system.proofs.drills.stage import DrillStage

_EVENTS_AT_ONCE = 20
_TICK_SECONDS = 0.05
# Before a kill and while the broker is down: the client retries, backs off, gives up and restarts.
_WORK_SECONDS = (0.2, 1.0)
_AWAY_SECONDS = (0.0, 1.0)
# Up to more than the producer's timeout.
_PAUSE_SECONDS = (0.5, 6.0)


def broker_kill(stage: DrillStage, *, times: int) -> DrillReport:
    """SIGKILL and restart, while events are sent and two consumers work."""
    crew = _Crew(stage)
    for number in range(times):
        stage.progress(0.85 * number / times, f"broker killed {number} of {times} times")
        with _sending(stage):
            crew.work(stage.rng.uniform(*_WORK_SECONDS))
            stage.scratch.broker.kill()
            crew.work(stage.rng.uniform(*_AWAY_SECONDS))
            stage.scratch.broker.start()
            crew.work(stage.rng.uniform(*_WORK_SECONDS))
    return _finish(stage, crew, "broker-kill", {"broker killed": times})


def broker_pause(stage: DrillStage, *, times: int) -> DrillReport:
    """SIGSTOP for some seconds: connections stay open without answers, acknowledgements are lost."""
    crew = _Crew(stage)
    for number in range(times):
        stage.progress(0.85 * number / times, f"broker paused {number} of {times} times")
        with _sending(stage):
            crew.work(stage.rng.uniform(*_WORK_SECONDS))
            stage.scratch.broker.pause()
            try:
                crew.work(stage.rng.uniform(*_PAUSE_SECONDS))
            finally:
                stage.scratch.broker.resume()
            crew.work(stage.rng.uniform(*_WORK_SECONDS))
    return _finish(stage, crew, "broker-pause", {"broker paused": times})


def _finish(stage: DrillStage, crew: _Crew, drill: str, faults: dict[str, int]) -> DrillReport:
    crew.end()
    faults |= {"consumers that began again": crew.restarts, "messages sent again": stage.producer.retries}
    return stage.finish(drill, Counter(faults), crew.problems)


class _Crew:
    """Two consumers that are restarted when they end, as by the supervisor."""

    def __init__(self, stage: DrillStage) -> None:
        self._stage = stage
        self._consumers: dict[tuple[int, ...], DrillConsumer] = {}
        self.restarts = 0
        self.problems: list[str] = []

    def work(self, seconds: float) -> None:
        """Keep them running for `seconds`."""
        until = monotonic() + seconds
        while True:
            for tasks in self._stage.halves():
                self._look_after(tasks)
            if monotonic() >= until:
                return
            sleep(_TICK_SECONDS)

    def end(self) -> None:
        """Kill them; another consumer settles the drill."""
        for consumer in self._consumers.values():
            consumer.kill()

    def _look_after(self, tasks: tuple[int, ...]) -> None:
        consumer = self._consumers.get(tasks)
        if consumer is not None and consumer.exit_code is None:
            return
        if consumer is not None:
            self.restarts += 1
            if consumer.exit_code != BROKER_AWAY:
                self.problems.append(f"a consumer ended with exit code {consumer.exit_code}")
        self._consumers[tasks] = self._stage.fleet.start(self._stage.plan(tasks=tasks))


@contextmanager
def _sending(stage: DrillStage) -> Iterator[None]:
    """Send events from a separate thread in this context; its error is raised here."""
    enough = Flag()

    def feed() -> None:
        while not enough.is_set():
            stage.feed(_EVENTS_AT_ONCE)
            sleep(_TICK_SECONDS)

    with ThreadPoolExecutor(1) as thread:
        feeding = thread.submit(feed)
        try:
            yield
        finally:
            enough.set()
        feeding.result()
