"""The catalogue: new videos appear every day, demand fades with age and sometimes rises in a wave.

In: the settings and a day. Out: the videos up to that day; the demand for each at a time.
Invariant: the videos of a day depend on the seed and that day alone, so indices mean the same after a restart.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.settings import Settings
from reference_system.world.columns import IdColumn, Publications, distinct
from reference_system.world.randomness import Stream, draw_indices, generator

NEW_SHARE_PER_DAY = 0.005
_OLDEST_DAYS = 365
# In the order of `CATEGORIES`.
_CATEGORY_SHARES = np.array([0.18, 0.15, 0.11, 0.16, 0.09, 0.10, 0.13, 0.08])
_MEDIAN_SECONDS, _SPREAD_OF_DURATIONS = 360.0, 0.8
_SHORTEST, _LONGEST = 20.0, 3_600.0
# Log-normal fame with this spread makes the videos' shares fall about like 1/rank.
_SPREAD_OF_FAME = 1.8
_FADING_DAYS = 9.0
_LASTING = 0.12  # the share of its demand that an old video keeps
_WAVES_PER_DAY = 1.5
_LONGEST_WAVE_DAYS = 6
_VIRAL_QUALITY = 2.5
_MILLISECOND = 1_000


@dataclass(slots=True)
class WorldCatalogue:
    """All videos published up to the end of day `grown_to`, by index; `published` ascends.

    `qualities` are standard normal; `fame` is the logarithm of a video's base demand.
    """

    seed: int
    first_day: int
    per_day: float
    grown_to: int
    categories: IdColumn
    durations: Floats
    qualities: Floats
    fame: Floats
    published: Micros
    waves: dict[int, tuple[IdColumn, Micros, Micros, Floats]] = field(default_factory=dict)

    def grow(self, day: int) -> None:
        """Add the videos of every day up to `day` (counted from 1970)."""
        while self.grown_to < day:
            self.grown_to += 1
            rng = generator(self.seed, Stream.VIDEOS, self.grown_to)
            count = int(rng.poisson(self.per_day))
            start = self.grown_to * MICROS_PER_DAY
            self._add(rng, distinct(start + rng.integers(0, MICROS_PER_DAY, count)))

    def publications(self, start: int, end: int) -> Publications:
        """The videos that are announced in [start, end).

        Videos older than the history are announced when the history begins, the oldest first.
        """
        opening = self.first_day * MICROS_PER_DAY
        first, last = np.searchsorted(self.published, (start if start > opening else 0, end))
        videos = np.arange(first, last)
        times = np.maximum(self.published[first:last], opening + videos * _MILLISECOND)
        return Publications(times=times, videos=videos)

    def known(self, moment: int) -> int:
        """How many videos have been published by then; they have the lower indices."""
        return int(np.searchsorted(self.published, moment, side="right"))

    def demand(self, moment: int) -> tuple[Floats, Floats]:
        """The demand for every video that is known at `moment`, and its age in days."""
        count = self.known(moment)
        ages = (moment - self.published[:count]) / MICROS_PER_DAY
        fading = _LASTING + (1.0 - _LASTING) * np.exp(-ages / _FADING_DAYS)
        return np.exp(self.fame[:count]) * fading * self.fashion(moment)[:count], ages

    def fashion(self, moment: int) -> Floats:
        """The factor by which a wave raises the demand for each video at `moment`; 1 without one."""
        lift = np.ones(len(self.published))
        day = moment // MICROS_PER_DAY
        for begun in range(day - _LONGEST_WAVE_DAYS, day + 1):
            videos, starts, lengths, heights = self._waves_of(begun)
            phase = np.clip((moment - starts) / lengths, 0.0, 1.0)
            np.maximum.at(lift, videos, 1.0 + heights * np.sin(np.pi * phase) ** 2)
        return lift

    def qualities_at(self, viral: int | None) -> Floats:
        """The videos' qualities while the video `viral` goes viral."""
        if viral is None:
            return self.qualities
        qualities = self.qualities.copy()
        qualities[viral] = _VIRAL_QUALITY
        return qualities

    def _waves_of(self, day: int) -> tuple[IdColumn, Micros, Micros, Floats]:
        """The waves that begin on a day: videos, starts, lengths, heights."""
        if day not in self.waves:
            for old in [known for known in self.waves if known < day - _LONGEST_WAVE_DAYS]:
                del self.waves[old]
            rng = generator(self.seed, Stream.WAVES, day)
            count = int(rng.poisson(_WAVES_PER_DAY))
            known = self.known(max(day, self.first_day) * MICROS_PER_DAY)
            lengths = rng.uniform(2, _LONGEST_WAVE_DAYS, count) * MICROS_PER_DAY
            starts = day * MICROS_PER_DAY + rng.integers(0, MICROS_PER_DAY, count)
            self.waves[day] = (
                rng.integers(0, known, count),
                starts,
                lengths.astype(np.int64),
                rng.uniform(3.0, 12.0, count),
            )
        return self.waves[day]

    def _add(self, rng: np.random.Generator, published: Micros) -> None:
        count = len(published)
        durations = rng.lognormal(np.log(_MEDIAN_SECONDS), _SPREAD_OF_DURATIONS, count)
        categories = draw_indices(rng, np.cumsum(_CATEGORY_SHARES), count)
        self.categories = np.concatenate([self.categories, categories])
        self.durations = np.concatenate([self.durations, np.round(durations.clip(_SHORTEST, _LONGEST), 1)])
        self.qualities = np.concatenate([self.qualities, rng.standard_normal(count)])
        self.fame = np.concatenate([self.fame, _SPREAD_OF_FAME * rng.standard_normal(count)])
        self.published = np.concatenate([self.published, published])


def make_catalogue(settings: Settings) -> WorldCatalogue:
    """The catalogue on the day before the history."""
    first_day = micros(settings.history_start) // MICROS_PER_DAY
    catalogue = WorldCatalogue(
        seed=settings.seed,
        first_day=first_day,
        per_day=settings.videos * NEW_SHARE_PER_DAY,
        grown_to=first_day - 1,
        categories=np.empty(0, np.int64),
        durations=np.empty(0),
        qualities=np.empty(0),
        fame=np.empty(0),
        published=np.empty(0, np.int64),
    )
    rng = generator(settings.seed, Stream.VIDEOS, first_day - 1)
    ages = rng.integers(1, _OLDEST_DAYS * MICROS_PER_DAY, settings.videos)
    catalogue._add(rng, distinct(first_day * MICROS_PER_DAY - ages))  # noqa: SLF001 - its factory
    return catalogue
