"""Viewers: their activity and their tastes, which drift slowly.

In: the settings, a day, a time. Out: viewers by index; their tastes at that time.
Invariant: the viewers who join on a day depend on the seed and that day alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.settings import Settings
from reference_system.use_cases.recommendation.events import CATEGORIES
from reference_system.world.columns import IdColumn
from reference_system.world.randomness import Stream, draw_indices, generator

JOIN_SHARE_PER_DAY = 0.0005
_SPREAD_OF_ACTIVITY = 1.1
_SPREAD_OF_TASTE = 1.25
_DRIFT = 0.8
_SHORTEST_PERIOD_DAYS, _LONGEST_PERIOD_DAYS = 60.0, 240.0
# The scenario `taste-shift` shifts every taste to the category this far down the list.
_JUMP = 3


@dataclass(slots=True)
class WorldViewers:
    """All viewers who joined up to the end of day `grown_to`, by index.

    `activity` is a weight; `likes` (n, categories) is the lasting part of their taste, `phases` and `periods` (in
    days) shape the part that drifts.
    """

    seed: int
    per_day: float
    grown_to: int
    activity: Floats
    likes: Floats
    phases: Floats
    periods: Floats

    def grow(self, day: int) -> None:
        """Add the viewers who join on every day up to `day` (counted from 1970)."""
        while self.grown_to < day:
            self.grown_to += 1
            rng = generator(self.seed, Stream.VIEWERS, self.grown_to)
            self._add(rng, int(rng.poisson(self.per_day)))

    def draw(self, rng: np.random.Generator, count: int) -> IdColumn:
        """Viewers, drawn in proportion to their activity."""
        return draw_indices(rng, np.cumsum(self.activity), count)

    def tastes(self, viewers: IdColumn, times: Micros, *, jumped: bool) -> Floats:
        """How much each viewer likes each category at each time: shares, shape (n, categories)."""
        turns = (times / MICROS_PER_DAY / self.periods[viewers])[:, None] + self.phases[viewers]
        likes = self.likes[viewers] + _DRIFT * np.sin(2 * np.pi * turns)
        shares = np.exp(likes - likes.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        return np.roll(shares, _JUMP, axis=1) if jumped else shares

    def _add(self, rng: np.random.Generator, count: int) -> None:
        shape = (count, len(CATEGORIES))
        self.activity = np.concatenate([self.activity, rng.lognormal(0.0, _SPREAD_OF_ACTIVITY, count)])
        self.likes = np.concatenate([self.likes, _SPREAD_OF_TASTE * rng.standard_normal(shape)])
        self.phases = np.concatenate([self.phases, rng.random(shape)])
        periods = rng.uniform(_SHORTEST_PERIOD_DAYS, _LONGEST_PERIOD_DAYS, count)
        self.periods = np.concatenate([self.periods, periods])


def make_viewers(settings: Settings) -> WorldViewers:
    """The viewers on the day before the history."""
    eve = micros(settings.history_start) // MICROS_PER_DAY - 1
    viewers = WorldViewers(
        seed=settings.seed,
        per_day=settings.viewers * JOIN_SHARE_PER_DAY,
        grown_to=eve,
        activity=np.empty(0),
        likes=np.empty((0, len(CATEGORIES))),
        phases=np.empty((0, len(CATEGORIES))),
        periods=np.empty(0),
    )
    viewers._add(generator(settings.seed, Stream.VIEWERS, eve), settings.viewers)  # noqa: SLF001 - its factory
    return viewers
