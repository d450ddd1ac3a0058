"""Event time for a process that asks for it thousands of times a second.

In: the world's heartbeat file, read ten times a second. Out: the same time as `SimulatedClock`.
Invariant: before the world's first heartbeat, time stands at the end of the data that the model knows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from reference_system.clock import GRACE_SECONDS, Heartbeat, read_heartbeat, wall_seconds
from reference_system.errors import StateError

_READ_EVERY_SECONDS = 0.1


@dataclass(slots=True)
class ServingClock:
    """The event clock of the real-time service."""

    path: Path
    before_the_world: Callable[[], datetime]
    _beat: Heartbeat | None = field(default=None, init=False)
    _read_at: float = field(default=0.0, init=False)

    def now(self) -> datetime:
        """The current event time."""
        wall = wall_seconds()
        # The second condition: a machine's clock that was set back must not keep an old heartbeat for ever.
        if wall - self._read_at > _READ_EVERY_SECONDS or wall < self._read_at:
            self._read_at = wall
            # A heartbeat that cannot be read leaves the last one; `GRACE_SECONDS` bounds how far it carries.
            with contextlib.suppress(OSError, StateError):
                self._beat = read_heartbeat(self.path)
        if self._beat is None:
            return self.before_the_world()
        elapsed = min(max(wall - self._beat.wall_seconds, 0.0), GRACE_SECONDS)
        return self._beat.event_time + timedelta(seconds=elapsed * self._beat.speed)
