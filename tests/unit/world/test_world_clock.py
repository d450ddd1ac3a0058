"""The world owns the clock: what it makes of the heartbeat that it finds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from reference_system.clock import SimulatedClock
from reference_system.event_time import micros
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.world.live import LiveWorld

CHECKPOINT = datetime(2025, 4, 6, tzinfo=UTC)


@pytest.mark.parametrize("found", [None, b"", b'{"event_time":"2025-04-0', b"\xff" * 80])
def test_without_a_heartbeat_that_can_be_read_time_goes_on_at_the_checkpoint(tmp_path, found):
    settings = Settings(state_dir=tmp_path, speed=1e-9)
    clock = StatePaths(tmp_path).clock
    clock.parent.mkdir()
    if found is not None:
        clock.write_bytes(found)
    unused = cast("Any", None)

    LiveWorld(
        settings=settings,
        world=unused,
        released=micros(CHECKPOINT),
        publisher=unused,
        serving=unused,
        metrics=unused,
    ).start_clock()

    assert SimulatedClock(clock).now() == CHECKPOINT
