from __future__ import annotations

import socket

import pytest

from reference_system.clock import wall_seconds
from reference_system.stack import process_metrics
from reference_system.stack.health import HeartbeatIsFresh


def free_port() -> int:
    """A port of the system's choice: the page is served until this process ends, so it must be nobody else's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_process_that_beats_is_healthy_and_one_that_stands_still_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    health = HeartbeatIsFresh(port)
    assert health.problem() == f"port {port} does not answer"

    process_metrics.serve_metrics(port)
    assert health.problem() is None

    monkeypatch.setattr(process_metrics, "wall_seconds", lambda: wall_seconds() - 60)
    process_metrics.beat()
    assert health.problem() in ("no heartbeat for 60 s", "no heartbeat for 61 s")
