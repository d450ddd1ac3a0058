"""The world stands still while the disk has no room, says so once, and goes on by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from reference_system.clock import read_heartbeat
from reference_system.event_time import micros
from reference_system.paths import StatePaths
from reference_system.processes.world import run
from reference_system.settings import Settings
from reference_system.world.live import LiveWorld

NOON = datetime(2025, 4, 6, 12, tzinfo=UTC)
FULL = "the disk is full"


class Rounds:
    """A flag that is raised after so many waits: no test waits for time."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds

    def is_set(self) -> bool:
        return self.left <= 0

    def wait(self, _: float) -> bool:
        self.left -= 1
        return self.is_set()


class Script:
    """Whether there is room at each question, and whether the world said that it stands."""

    def __init__(self, live: LiveWorld, answers: str) -> None:
        self.live, self.answers, self.asked = live, iter(answers), ""
        self.speeds: list[float] = []

    def __call__(self, *, stands: bool) -> str | None:
        self.asked += "s" if stands else "g"
        self.speeds.append(read_heartbeat(self.live.paths.clock).speed)
        return FULL if next(self.answers, ".") == "x" else None


@pytest.fixture
def live(tmp_path, monkeypatch):
    paths = StatePaths(tmp_path)
    paths.world.mkdir()
    unused = cast("Any", None)
    world = LiveWorld(
        settings=Settings(state_dir=tmp_path, speed=1_000.0),
        world=unused,
        released=micros(NOON),
        publisher=unused,
        serving=unused,
        metrics=unused,
    )
    ticks: list[bool] = []
    monkeypatch.setattr(LiveWorld, "tick", lambda *_: ticks.append(True) or True)
    return world, ticks


def test_while_there_is_no_room_nothing_is_produced_and_the_clock_stands_still(live, capsys):
    world, ticks = live
    script = Script(world, "..xxx.")
    run(world, cast("Any", Rounds(6)), room=script)
    assert script.asked == "gggsssg"
    assert script.speeds[:6] == [1_000.0, 1_000.0, 1_000.0, 0.0, 0.0, 0.0]
    assert len(ticks) == 3
    said = capsys.readouterr().err
    assert said.count(FULL) == 1
    assert said.count("the world goes on") == 1


def test_whoever_asks_it_to_stop_need_not_wait_for_room(live):
    world, ticks = live
    run(world, cast("Any", Rounds(3)), room=Script(world, "x" * 99))
    assert ticks == []
    assert read_heartbeat(world.paths.clock).speed == 0.0
