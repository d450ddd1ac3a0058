"""Starting and ending the supervisor; finding and ending what a killed one left behind.

In: settings. Out: a detached supervisord that knows every service and has started none.
Invariant: there is never a second supervisor for one state directory, and `end_everything` leaves no process.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reference_system.errors import ServiceError
from reference_system.paths import PROJECT_ROOT, StatePaths
from reference_system.stack.environment import child_environment
from reference_system.stack.log_files import tail
from reference_system.stack.processes import Marked, marked_processes, stop_processes, wait_until_gone
from reference_system.stack.services import services
from reference_system.stack.supervisor.client import ALIVE_STATES, NotAnswering, Supervisor
from reference_system.stack.supervisor.config import config_path, write_config

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reference_system.settings import Settings
    from reference_system.stack.services import Service

SUPERVISOR = "supervisor"  # the mark of its own process
_START_SECONDS = 20.0
_POLL_SECONDS = 0.1
# supervisord kills after a service's stop_seconds by itself; this is for its own polling.
_MARGIN_SECONDS = 5
_LOG_LINES = 2_000
_BEGIN = "supervisord started with pid"
# `2026-01-05 12:00:00,123 WARN exited: kafka (terminated by SIGKILL; not expected)`, or `INFO stopped: kafka (…)`.
_END = re.compile(r"\S+ (?P<when>[\d:]+),\d+ \w+ (?P<what>exited|stopped): (?P<name>\S+) \((?P<how>.*)\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What was stopped: services in good order, and processes that had to be found by their mark."""

    services: tuple[str, ...]
    leftovers: tuple[Marked, ...]


def start_supervisor(settings: Settings) -> Supervisor:
    """Start a detached supervisord; it has started no service yet.

    Raises:
        ServiceError: it does not answer in time; its log is in the message's next command.
    """
    config = write_config(settings)
    log = StatePaths(settings.state_dir).logs / f"{SUPERVISOR}.log"
    process = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
        env=child_environment(settings, service=SUPERVISOR),
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )
    supervisor = Supervisor(settings)
    deadline = time.monotonic() + _START_SECONDS
    while not supervisor.is_alive():
        if process.returncode != 0 or time.monotonic() > deadline:
            said = (process.stderr or process.stdout).strip() or "\n".join(tail(log, 3))
            raise ServiceError(f"supervisord did not start: {said}", next_command=f"workbook logs {SUPERVISOR}")
        time.sleep(_POLL_SECONDS)
    return supervisor


def restart_service(settings: Settings, supervisor: Supervisor, service: Service) -> None:
    """Stop one service, start it, and return when it is healthy.

    Raises:
        ServiceError: it does not get healthy within `settings.ready_seconds`.
    """
    with stopped_service(settings, supervisor, service):
        pass


@contextmanager
def stopped_service(settings: Settings, supervisor: Supervisor, service: Service) -> Iterator[None]:
    """Stop one service for as long as the context lasts; then start it and wait until it is healthy.

    Raises:
        ServiceError: it does not get healthy within `settings.ready_seconds`.
    """
    if supervisor.process(service.name).state in ALIVE_STATES:
        supervisor.stop(service.name)
        _wait_until_stopped(supervisor, [service.name], seconds=service.stop_seconds + _MARGIN_SECONDS)
    try:
        yield
    finally:
        supervisor.start(service.name)
    deadline = time.monotonic() + settings.ready_seconds
    while (problem := service.health.problem()) is not None:
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{service.name} is not healthy after {settings.ready_seconds:.0f} s: {problem}",
                next_command=f"workbook logs {service.name}",
            )
        time.sleep(_POLL_SECONDS)


def unexpected_ends(settings: Settings, supervisor: Supervisor) -> list[str]:
    """One line for each service whose last end was not asked for, from the supervisor's own log."""
    log = StatePaths(settings.state_dir).logs / f"{SUPERVISOR}.log"
    last: dict[str, re.Match[str]] = {}
    for line in tail(log, _LOG_LINES):
        if _BEGIN in line:
            last.clear()  # what an earlier supervisor saw
        elif (match := _END.match(line)) is not None:
            last[match["name"]] = match
    states = supervisor.processes()
    return [
        f"{name} {_how(match['how'])} at {match['when']} and was started again (now {states[name].state})"
        for name, match in last.items()
        if match["what"] == "exited" and name in states
    ]


def _how(text: str) -> str:
    """`terminated by SIGKILL; not expected` → `was killed by SIGKILL`."""
    reason = text.partition(";")[0]
    return reason.replace("terminated by", "was killed by").replace("exit status", "ended with exit status")


def end_orphans(settings: Settings) -> list[Marked]:
    """Stop what still runs although its supervisor is gone; the caller knows that none answers."""
    orphans = marked_processes(settings.state_dir)
    stop_processes(orphans)
    config_path(settings).unlink(missing_ok=True)
    config_path(settings).with_name("supervisord.pid").unlink(missing_ok=True)
    return orphans


def stop_stray_steps(settings: Settings) -> list[Marked]:
    """Stop bring-up steps whose bring-up was killed: the supervisor does not know them."""
    known = {SUPERVISOR, *(service.name for service in services(settings))}
    stray = [process for process in marked_processes(settings.state_dir) if process.service not in known]
    stop_processes(stray)
    return stray


def end_everything(settings: Settings) -> Ended:
    """Stop every process of this state directory: in order where the supervisor answers, by mark where not."""
    stopped: list[str] = []
    supervisor = Supervisor(settings)
    try:
        stopped = _stop_in_order(settings, supervisor)
        pid = supervisor.pid()
        supervisor.shutdown()
        wait_until_gone(pid, _START_SECONDS)
    except NotAnswering:
        pass
    return Ended(services=tuple(stopped), leftovers=tuple(end_orphans(settings)))


def _stop_in_order(settings: Settings, supervisor: Supervisor) -> list[str]:
    """First what uses others, all at once; then the platform."""
    stopped = []
    for platform in (False, True):
        wave = [service for service in services(settings) if service.platform is platform]
        running = {name for name, process in supervisor.processes().items() if process.state in ALIVE_STATES}
        names = [service.name for service in wave if service.name in running]
        for name in names:
            supervisor.stop(name)
        _wait_until_stopped(
            supervisor, names, seconds=_MARGIN_SECONDS + max((s.stop_seconds for s in wave), default=0)
        )
        _wait_for_children(settings, set(names), seconds=_MARGIN_SECONDS)
        stopped += names
    return stopped


def _wait_for_children(settings: Settings, names: set[str], *, seconds: float) -> None:
    """A worker may outlive its parent while it hands over what it holds: to a platform that must still be there."""
    deadline = time.monotonic() + seconds
    while any(found.service in names for found in marked_processes(settings.state_dir)):
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)


def _wait_until_stopped(supervisor: Supervisor, names: Iterable[str], *, seconds: float) -> None:
    """Return when they have ended, or at the deadline: what is left then is found by its mark."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        states = supervisor.processes()
        if not any(states[name].state in ALIVE_STATES for name in names):
            return
        time.sleep(_POLL_SECONDS)
