"""Consumer processes of a drill: they start in a fifth of a second and can be killed at any time.

In: plans. Out: processes, and their exit codes.
Invariant: no process outlives the drill. They are forked from one process that has imported everything, because the
imports take longer than most of them live.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from time import monotonic, sleep
from typing import Self

import psutil

from reference_system.errors import ServiceError
from reference_system.proofs.drills.consumer_child import BROKER_AWAY, DONE, ConsumerPlan, consume
from reference_system.stack.environment import SERVICE_MARK, STATE_MARK
from reference_system.stack.log_files import tail

_POLL_SECONDS = 0.005
_LAST_LINES = 15


class DrillConsumer:
    """One consumer process."""

    def __init__(self, plan: ConsumerPlan, process: ForkServerProcess) -> None:
        """Take a process that was started with the plan."""
        self.plan = plan
        self.began = monotonic()
        self._process = process

    @property
    def age(self) -> float:
        """Seconds since its start."""
        return monotonic() - self.began

    @property
    def exit_code(self) -> int | None:
        """`None` while the process runs; after a kill the negative number of the signal."""
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._signal(signal.SIGKILL)
        self._process.join()

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def is_paused(self) -> bool:
        """Whether it is stopped."""
        try:
            return psutil.Process(self._pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    def wait(self, seconds: float) -> int | None:
        """The exit code, or `None` if it still runs after `seconds`."""
        self._process.join(seconds)
        return self.exit_code

    @property
    def _pid(self) -> int:
        return self._process.pid or 0

    def _signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            os.kill(self._pid, number)


class ConsumerFleet:
    """Starts consumers; a context manager that kills the remaining ones at the end."""

    def __init__(self, root: Path, preload: Sequence[str] = ()) -> None:
        """Start the process that consumers are forked from.

        Args:
            root: the folder of the scratch system; processes carry its mark, so they are found after a kill.
            preload: modules that the calling program would make each process import again.
        """
        # Python 3.12 and newer warn when a process with threads forks. This one has no Python threads; the allocators
        # and the linear algebra libraries prepare their own threads for a fork.
        self._context = multiprocessing.get_context("forkserver")
        # Feast enables warnings that the environment disables, so the Kafka client is imported before it.
        first = ("reference_system.stack.kafka.topics", "reference_system.proofs.drills.consumer_child")
        self._context.set_forkserver_preload([*first, *preload])
        resource_tracker.ensure_running()  # it serves the whole program, so it carries no mark
        with _marked(root):
            forkserver.ensure_running()
        self._started: list[DrillConsumer] = []

    def __enter__(self) -> Self:
        """The fleet itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Kill the remaining consumers, and end the process that they are forked from.

        It carries the mark of the scratch system: were it killed with that, the next fleet of this program would find
        a fork server that is gone.
        """
        for consumer in self._started:
            consumer.kill()
        # The standard library has no public way.
        forkserver._forkserver._stop()  # type: ignore[attr-defined]  # noqa: SLF001

    def start(self, plan: ConsumerPlan) -> DrillConsumer:
        """Start a consumer."""
        process = self._context.Process(target=consume, args=(plan,), daemon=True)
        process.start()
        consumer = DrillConsumer(plan, process)
        self._started = [each for each in self._started if each.exit_code is None] + [consumer]
        return consumer

    def run_to_the_end(self, plan: ConsumerPlan, seconds: float) -> None:
        """Run a consumer until it has read everything and stopped; restart it while the broker is unavailable.

        Raises:
            ServiceError: if it fails or takes longer than `seconds`; with the end of its log.
        """
        deadline = monotonic() + seconds
        while True:
            consumer = self.start(plan)
            code = consumer.wait(max(deadline - monotonic(), 0.0))
            if code == DONE:
                return
            if code == BROKER_AWAY and monotonic() < deadline:
                sleep(_POLL_SECONDS)
                continue
            consumer.kill()
            ending = f"did not finish within {seconds:.0f} s" if code is None else f"ended with exit code {code}"
            said = "\n".join(tail(plan.settings.state_dir / "consumers.log", _LAST_LINES))
            raise ServiceError(f"the last consumer of the drill {ending}: {said}")


@contextmanager
def _marked(root: Path) -> Iterator[None]:
    """Mark processes that are started in this context as part of the scratch system."""
    before = dict(os.environ)
    os.environ.update({SERVICE_MARK: "drill", STATE_MARK: str(root)})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
