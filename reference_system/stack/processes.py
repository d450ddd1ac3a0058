"""Processes of this machine: which are ours, what they take.

In: the marks that `environment.py` puts into every child. Out: processes, found without any pid file.
Invariant: only processes that carry the mark of this very state directory are ever stopped.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from reference_system.stack.environment import SERVICE_MARK, STATE_MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from reference_system.settings import Settings

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)
_MB = 1024 * 1024
_STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Marked:
    """A process that carries our marks."""

    pid: int
    service: str

    def __str__(self) -> str:
        """How a message names it."""
        return f"{self.service} (pid {self.pid})"


def marked_processes(state_dir: Path) -> list[Marked]:
    """Every process that belongs to a service of this state directory, the calling process excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            zombie = process.status() == psutil.STATUS_ZOMBIE
        except (*_GONE, OSError):
            continue
        service = environment.get(SERVICE_MARK)
        if service and environment.get(STATE_MARK) == str(state_dir) and process.pid != os.getpid() and not zombie:
            found.append(Marked(process.pid, service))
    return found


def stop_leftovers(settings: Settings, service: str) -> list[Marked]:
    """Stop what a killed former self of this process left behind (workers that still hold its port).

    Only for a process that the supervisor started: there is one of each, so another one with the same mark is a
    leftover. A process that a person starts by hand carries no mark and stops nothing.
    """
    if os.environ.get(SERVICE_MARK) != service:
        return []
    leftovers = [process for process in marked_processes(settings.state_dir) if process.service == service]
    stop_processes(leftovers)
    return leftovers


def stop_processes(marked: Sequence[Marked], *, seconds: float = _STOP_SECONDS) -> None:
    """Ask them to stop, then kill what is left after `seconds`."""
    processes = list(_existing(process.pid for process in marked))
    for process in processes:
        _quietly(process.terminate)
    _, stubborn = psutil.wait_procs(processes, timeout=seconds)
    for process in stubborn:
        _quietly(process.kill)
    psutil.wait_procs(stubborn, timeout=seconds)


def wait_until_gone(pid: int, seconds: float) -> None:
    """Return when the process has ended, or after `seconds`."""
    psutil.wait_procs(list(_existing([pid])), timeout=seconds)


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process and its descendants in MB, or `None` if it is gone."""
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except _GONE:
        return None
    total = 0
    for member in family:
        try:
            total += member.memory_info().rss
        except _GONE:
            continue
    return round(total / _MB, 1)


def _existing(pids: Iterable[int]) -> Iterable[psutil.Process]:
    for pid in pids:
        try:
            yield psutil.Process(pid)
        except psutil.NoSuchProcess:
            continue


def _quietly(action: Callable[[], None]) -> None:
    """Signal a process that may have ended in the meantime."""
    try:
        action()
    except _GONE:
        return
