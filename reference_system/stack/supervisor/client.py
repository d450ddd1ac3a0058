"""Talking to supervisord, which speaks XML-RPC on loopback.

In: settings (port, and the password that the last start wrote). Out: typed facts about its processes.
Invariant: a supervisor that hangs, is gone or belongs to somebody else raises `NotAnswering` within seconds.
"""

from __future__ import annotations

import http.client
import xmlrpc.client
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from reference_system.errors import ServiceError
from reference_system.settings import LOOPBACK
from reference_system.stack.supervisor.config import read_password

if TYPE_CHECKING:
    from reference_system.settings import Settings

_TIMEOUT_SECONDS = 5.0
# Fault codes of supervisord's own interface (supervisor.xmlrpc.Faults).
_BAD_NAME, _ALREADY_STARTED, _NOT_RUNNING = 10, 60, 70

ALIVE_STATES = frozenset({"RUNNING", "STARTING", "BACKOFF", "STOPPING"})


class NotAnswering(ServiceError):  # noqa: N818 - a state that callers expect, not a fault
    """No supervisor of this state directory answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervised:
    """What supervisord knows about one process."""

    name: str
    state: str  # RUNNING, STARTING, BACKOFF, STOPPING, STOPPED, EXITED, FATAL
    pid: int | None
    started: int  # seconds since the epoch; 0: never
    now: int
    detail: str


class _Transport(xmlrpc.client.Transport):
    """HTTP with a timeout."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ANN401 - the overridden signature
        connection = super().make_connection(host)
        connection.timeout = _TIMEOUT_SECONDS
        return connection


class Supervisor:
    """The running supervisor of one state directory."""

    def __init__(self, settings: Settings) -> None:
        """Connects at the first call, not here."""
        password = read_password(settings) or "-"
        self._proxy = xmlrpc.client.ServerProxy(
            f"http://workbook:{password}@{LOOPBACK}:{settings.port('supervisor')}/RPC2", transport=_Transport()
        )

    def processes(self) -> dict[str, Supervised]:
        """Every process it knows, by name."""
        facts = cast("list[dict[str, Any]]", self._call("getAllProcessInfo"))
        return {fact["name"]: _supervised(fact) for fact in facts}

    def process(self, name: str) -> Supervised:
        """One process; an error if the supervisor does not know it."""
        return _supervised(cast("dict[str, Any]", self._call("getProcessInfo", name)))

    def is_alive(self) -> bool:
        """Whether it answers."""
        try:
            self.pid()
        except NotAnswering:
            return False
        return True

    def pid(self) -> int:
        """Its process id."""
        return int(cast("int", self._call("getPID")))

    def start(self, name: str) -> None:
        """Start a process; one that runs already is left alone."""
        self._call("startProcess", name, False, tolerate=_ALREADY_STARTED)

    def stop(self, name: str) -> None:
        """Ask a process to stop; returns at once."""
        self._call("stopProcess", name, False, tolerate=_NOT_RUNNING)

    def shutdown(self) -> None:
        """Ask the supervisor to stop everything and end."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: object, tolerate: int | None = None) -> object:
        try:
            return getattr(self._proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode == tolerate:
                return None
            if fault.faultCode == _BAD_NAME:
                raise ServiceError(
                    f"the running supervisor does not know {arguments[0]!r}: another version started it",
                    next_command="make down",
                ) from fault
            raise ServiceError(f"supervisord refused {method}{arguments}: {fault.faultString}") from fault
        except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
            raise NotAnswering("the system is not running", next_command="make up") from error


def _supervised(fact: dict[str, Any]) -> Supervised:
    """A process as supervisord describes it."""
    return Supervised(
        name=fact["name"],
        state=fact["statename"],
        pid=fact["pid"] or None,
        started=fact["start"],
        now=fact["now"],
        detail=fact["spawnerr"] or fact["description"],
    )
