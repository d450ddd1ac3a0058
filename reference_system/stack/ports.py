"""Ports: free, or held by whom.

In: port numbers. Out: facts, or an error whose next command uses ports that are free.
Invariant: nothing listens because of a question asked here.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from reference_system.errors import SetupError
from reference_system.settings import FORBIDDEN_PORT, LOOPBACK, PORT_NAMES, Settings
from reference_system.stack.environment import STATE_MARK

if TYPE_CHECKING:
    from collections.abc import Iterable

_OFFSETS = range(100, 20_000, 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The process that listens on a port."""

    pid: int
    name: str
    state_dir: str | None  # set if it belongs to a workbook, this one or another

    def __str__(self) -> str:
        """How a message names it."""
        text = f"{self.name} (pid {self.pid})"
        return f"{text} of the workbook at {self.state_dir}" if self.state_dir else text


def is_port_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        if probe.connect_ex((LOOPBACK, port)) == 0:
            return False  # a listener on all addresses does not always stop us from binding ours
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def port_holder(port: int) -> Holder | None:
    """Who listens on the port; `None` if nobody does, or a process that we may not look at."""
    # Process by process: asking for all connections at once needs root on macOS.
    for process in psutil.process_iter():
        try:
            listens = any(
                connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
                for connection in process.net_connections(kind="tcp")
            )
            if listens:
                state_dir = process.environ().get(STATE_MARK)
                return Holder(pid=process.pid, name=process.name(), state_dir=state_dir)
        except (psutil.Error, OSError):
            continue
    return None


def taken_ports(settings: Settings, names: Iterable[str] = PORT_NAMES) -> list[str]:
    """A sentence for each of these ports that something else than this system holds."""
    taken = []
    for name in names:
        port = settings.port(name)
        if is_port_free(port):
            continue
        holder = port_holder(port)
        if holder is None or holder.state_dir != str(settings.state_dir):
            taken.append(f"port {port} ({name}) is held by {holder or 'a process of another user'}")
    return taken


def require_ports(settings: Settings, names: Iterable[str]) -> None:
    """Raise for the first port that something else holds.

    Raises:
        SetupError: naming the port and its holder; the next command uses ports that are free.
    """
    taken = taken_ports(settings, names)
    if taken:
        raise SetupError(taken[0], next_command=mend_ports(settings))


def mend_ports(settings: Settings) -> str:
    """The command that starts the system on ports that are all free."""
    bases = [settings.port(name) - settings.port_offset for name in PORT_NAMES]
    offset = next(
        offset
        for offset in _OFFSETS
        if all(base + offset != FORBIDDEN_PORT and is_port_free(base + offset) for base in bases)
    )
    return f"WORKBOOK_PORT_OFFSET={offset} make up"
