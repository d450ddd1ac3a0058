"""Health: what has to be true before a service counts as working, one check each.

In: a port. Out: `None`, or one line that says what is wrong.
Invariant: a check never raises for a service that is down, and never takes longer than its timeout.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Protocol

from reference_system.clock import wall_seconds
from reference_system.settings import LOOPBACK
from reference_system.stack.local_http import TIMEOUT_SECONDS, ask
from reference_system.stack.metrics_page import read_metrics
from reference_system.stack.process_metrics import FRESH_SECONDS, HEARTBEAT

_OK = range(200, 300)


class HealthCheck(Protocol):
    """One question to a running service."""

    def problem(self) -> str | None:
        """What is wrong, or `None` when the service is healthy."""
        ...


@dataclass(frozen=True, slots=True)
class AcceptsConnections:
    """The port is open: for a service that does not speak HTTP."""

    port: int

    def problem(self) -> str | None:
        """Try to connect."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=TIMEOUT_SECONDS):
                return None
        except OSError:
            return f"port {self.port} does not accept connections"


@dataclass(frozen=True, slots=True)
class AnswersHttp:
    """A path answers 2xx."""

    port: int
    path: str

    def problem(self) -> str | None:
        """Ask."""
        try:
            answer = ask(self.port, self.path)
        except OSError:
            return f"port {self.port} does not answer"
        return None if answer.status in _OK else f"{self.path} answers {answer.status}"


@dataclass(frozen=True, slots=True)
class HeartbeatIsFresh:
    """The process's main loop came round lately (see `stack/process_metrics.py`)."""

    port: int

    def problem(self) -> str | None:
        """Read the heartbeat from the metrics page."""
        try:
            beat = read_metrics(self.port).value(HEARTBEAT)
        except OSError:
            return f"port {self.port} does not answer"
        if beat is None:
            return f"the metrics page has no {HEARTBEAT}"
        age = wall_seconds() - beat
        return None if age <= FRESH_SECONDS else f"no heartbeat for {age:.0f} s"
