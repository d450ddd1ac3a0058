"""Jobs: what a bring-up has to do, each as soon as what it needs is done.

In: jobs that name their needs. Out: all of them done, or the first failure with the tail of its log.
Invariant: a job can be interrupted at any moment and begun again; only a complete step is marked as done.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from reference_system.errors import ServiceError, WorkbookError
from reference_system.paths import PROJECT_ROOT, StatePaths
from reference_system.settings import Settings
from reference_system.stack.bring_up.job import Job
from reference_system.stack.environment import child_environment
from reference_system.stack.log_files import tail
from reference_system.stack.state_dir import is_done, mark_done
from reference_system.stack.supervisor.client import ALIVE_STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from reference_system.stack.bring_up.progress import Board
    from reference_system.stack.services import Service
    from reference_system.stack.supervisor.client import Supervisor

_POLL_SECONDS = 0.2
# A step that takes longer hangs: the whole bring-up has a budget of three minutes.
_STEP_SECONDS = 1_200.0
# The last words of a process that refused to go on: `WorkbookError.for_person()`.
_REFUSAL = re.compile(r"(?P<fact>.+); run `(?P<command>[^`]+)`")
_LAST_LINES = 10
# A process that ended this often while starting will not get better by itself.
_GIVE_UP_STARTS = 4


def run_jobs(jobs: Sequence[Job], board: Board) -> None:
    """Do all jobs, each as soon as its needs are done.

    Raises:
        ValueError: before anything starts, if a need is no job, or jobs need one another in a circle.
        WorkbookError: from the first job that fails; jobs in supervised processes go on, others are cancelled.
    """
    order = _ordered(jobs)
    by_name, running = {job.name: job for job in jobs}, dict[str, Job]()
    try:
        while order.is_active():
            for name in order.get_ready():
                running[name] = job = by_name[name]
                board.started(job)
                job.work.start()
            for job in list(running.values()):
                if _is_finished(job, board):
                    board.finished(job)
                    del running[job.name]
                    order.done(job.name)
            if running:
                time.sleep(_POLL_SECONDS)
    finally:
        for job in running.values():
            job.work.cancel()


def _ordered(jobs: Sequence[Job]) -> TopologicalSorter[str]:
    """The jobs' names, each to be given out when its needs are done."""
    names = [job.name for job in jobs]
    for job in jobs:
        if names.count(job.name) > 1:
            raise ValueError(f"two jobs are called {job.name}")
        for need in job.needs:
            if need not in names:
                raise ValueError(f"the job {job.name} needs {need}, which is no job")
    order = TopologicalSorter({job.name: job.needs for job in jobs})
    try:
        order.prepare()
    except CycleError as error:
        raise ValueError(f"jobs need one another in a circle: {', '.join(error.args[1])}") from error
    return order


def _is_finished(job: Job, board: Board) -> bool:
    try:
        return job.work.is_finished()
    except WorkbookError:
        board.failed(job)
        raise


@dataclass(slots=True)
class ServiceStart:
    """A supervised service, until it is healthy."""

    settings: Settings
    supervisor: Supervisor
    service: Service
    _deadline: float = 0.0
    _starts: set[int] = field(default_factory=set)

    def start(self) -> None:
        """Ask the supervisor; a service that runs already is left alone."""
        self._deadline = time.monotonic() + self.settings.ready_seconds
        if self.supervisor.process(self.service.name).state not in ALIVE_STATES:
            self.supervisor.start(self.service.name)

    def is_finished(self) -> bool:
        """Healthy, and it is the supervised process that answers."""
        process = self.supervisor.process(self.service.name)
        if process.state in ("STOPPED", "EXITED"):  # an interrupted `down` or `restart` was still stopping it
            self.supervisor.start(self.service.name)
            return False
        self._starts.add(process.started)
        problem = self.service.health.problem()
        # STARTING: it may be the leftover of a killed one that answers, until `workbook run` has stopped it.
        if problem is None and process.state == "RUNNING":
            return True
        if process.state == "FATAL" or len(self._starts) >= _GIVE_UP_STARTS:
            raise self._failure("ends again and again while starting")
        if time.monotonic() > self._deadline:
            raise self._failure(
                f"is not healthy after {self.settings.ready_seconds:.0f} s: {problem or process.detail}"
            )
        return False

    def cancel(self) -> None:
        """The supervisor watches it: it goes on."""

    def _failure(self, what: str) -> ServiceError:
        # One that is still in its first life has said nothing yet: what stands in its log is older.
        reason = _refusal(self.settings, self.service.name) if len(self._starts) > 1 else None
        return reason or ServiceError(f"{self.service.name} {what}", next_command=f"workbook logs {self.service.name}")


@dataclass(slots=True)
class BringUpStep:
    """`workbook run NAME` once in the life of a state directory."""

    settings: Settings
    name: str
    _process: subprocess.Popen[bytes] | None = None
    _deadline: float = 0.0

    def start(self) -> None:
        """Start it in a session of its own, unless an earlier bring-up completed it."""
        if is_done(self.settings, self.name):
            return
        self._deadline = time.monotonic() + _STEP_SECONDS
        with step_log(self.settings, self.name).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "reference_system.cli", "run", self.name],
                env=child_environment(self.settings, service=self.name),
                cwd=PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_finished(self) -> bool:
        """Complete, now or earlier."""
        if self._process is None:
            return True
        code = self._process.poll()
        if code == 0:
            mark_done(self.settings, self.name)
            return True
        if code is not None:
            raise _refusal(self.settings, self.name) or self._failure(f"ended with exit code {code}")
        if time.monotonic() > self._deadline:
            raise self._failure(f"is not complete after {_STEP_SECONDS:.0f} s")
        return False

    def cancel(self) -> None:
        """Stop it and its children; the next bring-up begins it again."""
        if self._process is None or self._process.poll() is not None:
            return
        for request in (signal.SIGTERM, signal.SIGKILL):
            os.killpg(self._process.pid, request)
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                continue
            return

    def _failure(self, what: str) -> ServiceError:
        return ServiceError(f"the step {self.name} {what}", next_command=f"workbook logs {self.name}")


def _refusal(settings: Settings, name: str) -> ServiceError | None:
    """Why a process that ended would not go on, in its own words; `None` if it did not say."""
    for line in reversed(tail(step_log(settings, name), _LAST_LINES)):
        if (said := _REFUSAL.fullmatch(line)) is not None:
            return ServiceError(f"{name} cannot start: {said['fact']}", next_command=said["command"])
    return None


def step_log(settings: Settings, name: str) -> Path:
    """Where a step's output goes."""
    return StatePaths(settings.state_dir).logs / f"{name}.log"


@dataclass(slots=True)
class Call:
    """A function of this process, in a thread that an interrupt need not wait for."""

    function: Callable[[], None]
    _thread: threading.Thread | None = None
    _error: BaseException | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def is_finished(self) -> bool:
        """Returned; what it raised is raised here."""
        if self._error is not None:
            raise self._error
        return self._thread is not None and not self._thread.is_alive() and self._error is None

    def cancel(self) -> None:
        """It dies with this process; the functions given here leave nothing half-done."""

    def _run(self) -> None:
        try:
            self.function()
        except BaseException as error:  # noqa: BLE001 - raised again where the job is watched
            self._error = error
