"""What every long-lived process of ours tells about itself: a Prometheus page with a heartbeat.

In: `serve_metrics(port)` once, `beat()` in the main loop. Out: `workbook_heartbeat_seconds` on loopback.
Invariant: a process whose main loop stands still has an old heartbeat, and an old heartbeat is unhealthy.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from reference_system.clock import wall_seconds
from reference_system.settings import LOOPBACK

if TYPE_CHECKING:
    from prometheus_client import Gauge

HEARTBEAT = "workbook_heartbeat_seconds"
# Twice the longest pause that a healthy loop makes (a lake commit, a feature push) and some air.
FRESH_SECONDS = 15.0


def serve_metrics(port: int) -> None:
    """Serve this process's metrics at `http://127.0.0.1:port/metrics` from a daemon thread; beat once."""
    from prometheus_client import start_http_server

    start_http_server(port, addr=LOOPBACK)
    beat()


def beat() -> None:
    """Say that the main loop is alive. Call it at least every five seconds."""
    _heartbeat().set(wall_seconds())


@cache
def _heartbeat() -> Gauge:
    from prometheus_client import Gauge

    return Gauge(HEARTBEAT, "When the main loop of this process last came round, seconds since the epoch.")
