"""Four weeks of the default world, generated once for the tests that look at its distributions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from reference_system.event_time import MICROS_PER_DAY
from reference_system.settings import Settings
from reference_system.world.history import generate_block
from reference_system.world.simulation import Happened, World, make_world

DAYS = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Weeks:
    """What happened in `DAYS` days from `start`, and the world afterwards."""

    start: int
    world: World
    happened: Happened

    def hours(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        return times % MICROS_PER_DAY // (MICROS_PER_DAY // 24)

    def weekdays(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Monday is 0."""
        return (times // MICROS_PER_DAY + 3) % 7

    def watched(self) -> NDArray[np.bool_]:
        """For each page and position whether the video was watched; shape (pages, 10)."""
        rows = {impression: row for row, impression in enumerate(self.happened.pages.impressions.tolist())}
        found = np.zeros(self.happened.pages.videos.shape, np.bool_)
        watches = self.happened.watches
        found[[rows[impression] for impression in watches.impressions.tolist()], watches.positions - 1] = True
        return found


@cache
def four_weeks() -> Weeks:
    """They are read, never changed."""
    world = make_world(Settings(_env_file=None))
    start = world.generated
    return Weeks(start=start, world=world, happened=generate_block(world, start + DAYS * MICROS_PER_DAY))
