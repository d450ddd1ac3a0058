"""The event clock stands still with the world."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reference_system import clock
from reference_system.clock import (
    GRACE_SECONDS,
    FixedClock,
    Heartbeat,
    SimulatedClock,
    read_heartbeat,
    write_heartbeat,
)
from reference_system.errors import StateError

NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def wall(monkeypatch):
    """A wall clock that a test can set."""
    seconds = [1_000.0]
    monkeypatch.setattr(clock, "wall_seconds", lambda: seconds[0])
    return seconds


def beat(path, *, wall_seconds=1_000.0, speed=1440.0):
    write_heartbeat(path, Heartbeat(event_time=NOON, wall_seconds=wall_seconds, speed=speed))


def test_a_reader_extrapolates_from_the_last_heartbeat_at_the_worlds_speed(tmp_path, wall):
    beat(tmp_path / "clock.json")
    wall[0] += 0.5
    assert SimulatedClock(tmp_path / "clock.json").now() == NOON + timedelta(seconds=720)


def test_event_time_stands_still_when_the_heartbeat_stops(tmp_path, wall):
    beat(tmp_path / "clock.json")
    wall[0] += 8 * 3600
    assert SimulatedClock(tmp_path / "clock.json").now() == NOON + timedelta(seconds=GRACE_SECONDS * 1440)


def test_a_wall_clock_that_is_set_back_does_not_turn_event_time_back(tmp_path, wall):
    beat(tmp_path / "clock.json")
    wall[0] -= 60
    assert SimulatedClock(tmp_path / "clock.json").now() == NOON


def test_a_heartbeat_is_replaced_whole_and_leaves_no_file_behind(tmp_path):
    path = tmp_path / "world" / "clock.json"
    beat(path)
    beat(path, speed=1.0)
    assert read_heartbeat(path).speed == 1.0
    assert [file.name for file in path.parent.iterdir()] == ["clock.json"]


def test_without_a_world_there_is_no_time(tmp_path):
    with pytest.raises(StateError, match="no world has run") as raised:
        SimulatedClock(tmp_path / "clock.json").now()
    assert raised.value.next_command == "make up"


def test_a_damaged_heartbeat_is_one_line_with_the_next_command(tmp_path):
    path = tmp_path / "clock.json"
    path.write_bytes(b'{"event_time":"2025-0')
    with pytest.raises(StateError, match=r"clock\.json cannot be read") as caught:
        SimulatedClock(path).now()
    assert caught.value.next_command == "make up"


def test_a_fixed_clock_always_says_the_same():
    assert FixedClock(NOON).now() == FixedClock(NOON).now() == NOON
