"""The service's log: one JSON object a line.

In: an event with its fields. Out: a line on standard output, which supervisord keeps.
Invariant: no id, no amount, no score, no body. An error that a request caused is told by its type and place, because
its message may hold what was sent.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import msgspec

from reference_system.clock import wall_now


def write_event(event: str, **fields: str | float | bool | None) -> None:
    """One line."""
    line = msgspec.json.encode({"time": wall_now(), "event": event, **fields})
    sys.stdout.write(line.decode() + "\n")
    sys.stdout.flush()


def log_place(error: Exception) -> str:
    """The error's type and the line that raised it, without its message."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
