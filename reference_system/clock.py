"""Event time: the only clock that decisions about data may ask.

The world runs on a simulated clock (one day a minute by default). The world process owns it and writes its
heartbeat to one small file; every other process reads that file and extrapolates. So the clock stands still
when the world stands still: after `make down`, a crash or a night, time goes on where it stopped.

In: `clock.json` in the state directory. Out: aware UTC datetimes.
Invariant: a reader's clock never runs more than `GRACE_SECONDS` of real time past the last heartbeat.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from reference_system.errors import StateError
from reference_system.replaced_files import read_record, replace_file

# A heartbeat comes about four times a second; two seconds without one mean that the world has stopped.
GRACE_SECONDS = 2.0


class Clock(Protocol):
    """What a component is given instead of the wall clock."""

    def now(self) -> datetime:
        """The current event time, UTC."""
        ...


@dataclass(frozen=True, slots=True)
class FixedClock:
    """A clock that stands still: tests, history and backfills."""

    moment: datetime

    def now(self) -> datetime:
        """The moment it was made with."""
        return self.moment


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `clock.json`: event time `event_time` was reached at wall time `wall_seconds`."""

    event_time: datetime
    wall_seconds: float
    speed: float  # simulated seconds per real second; 0 while the world is paused


@dataclass(frozen=True, slots=True)
class SimulatedClock:
    """Event time as the world's heartbeat file tells it."""

    path: Path

    def now(self) -> datetime:
        """The current event time: the last heartbeat plus the time since, at the world's speed."""
        beat = read_heartbeat(self.path)
        elapsed = min(max(wall_seconds() - beat.wall_seconds, 0.0), GRACE_SECONDS)
        return beat.event_time + timedelta(seconds=elapsed * beat.speed)


def wall_seconds() -> float:
    """Seconds since the epoch on the machine's own clock: for latencies, heartbeats and fencing, never for data."""
    return time.time()


def wall_now() -> datetime:
    """The machine's own clock as a UTC datetime: for run records, never for data."""
    return datetime.now(tz=UTC)


def read_heartbeat(path: Path) -> Heartbeat:
    """The last heartbeat.

    Raises:
        StateError: if no world ever ran here, or the file is not a heartbeat.
    """
    beat = read_record(path, Heartbeat, next_command="make up")  # the world replaces it when it starts
    if beat is None:
        raise StateError(f"no world has run in {path.parent} yet", next_command="make up")
    return beat


def write_heartbeat(path: Path, beat: Heartbeat) -> None:
    """Replace the heartbeat atomically: a reader sees the old one or the new one, never half of it."""
    replace_file(path, msgspec.json.encode(beat))
