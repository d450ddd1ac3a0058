"""The catalogue in memory: every video that can be recommended, with its state, ready for the ranker.

In: the catalogue of the model's bundle, and states of videos from the online store. Out: arrays, one row a video.
Invariant: `features_at(moment)` says for every video what `evaluate` says on the tails of the last refresh: rows lie
on tile ends, so one evaluation holds from a tile end until the next.

Videos that were published after the model was trained stand behind those of the bundle; the model knows no
neighbours of theirs and no factors, and finds them as the newest and the popular.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Floats32, Micros
from reference_system.event_time import micros
from reference_system.serving.feature_reads import ReadStates
from reference_system.serving.fraud.scoring import FraudScorer
from reference_system.use_cases.recommendation.events import CATEGORIES
from reference_system.use_cases.recommendation.features import NEWEST_VIDEOS, VIDEO_POPULARITY, VIDEO_PROFILE
from reference_system.use_cases.recommendation.model import CANDIDATE_COUNT, Neighbours
from reference_system.windows import EVERYONE, WindowedView, unpack_tail

_WATCHES_7D = VIDEO_POPULARITY.features.index("video_watch_count_7d")
# Requests ask about now; a few tiles are kept for those that ask about another moment.
_TILES_KEPT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerModel:
    """A verified ranker with the catalogue that it was trained on; arrays have one row a video."""

    version: str
    known_until: datetime  # the end of the data that it was trained on
    scorer: FraudScorer
    video_ids: tuple[str, ...]
    categories: NDArray[np.int64]
    durations: Floats
    published: NDArray[np.int64]
    neighbours: Neighbours
    vectors: Floats32
    popular: tuple[int, ...]


class VideoProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A state of `VIDEO_PROFILE`."""

    category: str
    duration_seconds: float
    event_timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedTails:
    """The tails of many entities in one piece: row j belongs to entity `owner[j]` of `count`."""

    times: Micros
    values: Floats
    owner: NDArray[np.int64]
    count: int


@dataclass(slots=True, kw_only=True)
class ServedCatalogue:
    """What one refresh found. `tails` is `None` while the online store cannot be read."""

    model: RankerModel
    video_ids: tuple[str, ...]
    index: Mapping[str, int]
    categories: NDArray[np.int64]
    category_list: list[int]
    durations: Floats
    published: NDArray[np.int64]
    newest: tuple[int, ...]
    tails: StackedTails | None
    state_times: tuple[int | None, ...]  # how new each video's state was, microseconds
    read_at: datetime | None  # when the states were read; `None` without states
    _at: dict[int, tuple[Floats, list[int]]] = field(default_factory=dict)

    def features_at(self, moment: int) -> tuple[Floats, list[int]]:
        """The videos' features at a moment, shape (n, features), and the most watched videos, best first."""
        if self.tails is None:
            raise ValueError("a catalogue without states has no features")
        tile = moment - moment % VIDEO_POPULARITY.tile_micros
        found = self._at.get(tile)
        if found is None:
            features = evaluate_all(VIDEO_POPULARITY, self.tails, tile)
            popular = np.argsort(-features[:, _WATCHES_7D], kind="stable")[:CANDIDATE_COUNT]
            found = (features, popular.tolist())
            if len(self._at) >= _TILES_KEPT:
                self._at.clear()
            self._at[tile] = found
        return found


def catalogue_without_states(model: RankerModel) -> ServedCatalogue:
    """The bundle's own catalogue: enough for a degraded answer."""
    return _catalogue(model, {})


def refresh_catalogue(model: RankerModel, read: ReadStates, now: datetime) -> ServedCatalogue:
    """The catalogue with the states that the online store has; evaluated for now and for the next tile.

    Raises:
        FeaturesUnavailable: if the store does not answer.
        ValueError: if a state is not what its view says.
    """
    ((newest, _),) = read(NEWEST_VIDEOS, (EVERYONE,))
    items = msgspec.msgpack.decode(newest, type=list[tuple[int, str]]) if newest else []
    known = set(model.video_ids)
    unseen = [video_id for _, video_id in items if video_id not in known]
    profiles = {
        video_id: msgspec.msgpack.decode(state, type=VideoProfile)
        for video_id, (state, _) in zip(unseen, read(VIDEO_PROFILE, unseen) if unseen else (), strict=True)
        if state
    }
    ids = (*model.video_ids, *profiles)
    states, times = zip(*read(VIDEO_POPULARITY, ids), strict=True)
    catalogue = replace(
        _catalogue(model, profiles), tails=stack_tails(VIDEO_POPULARITY, states), state_times=times, read_at=now
    )
    moment = micros(now)
    for at in (moment, moment + VIDEO_POPULARITY.tile_micros):
        catalogue.features_at(at)
    return catalogue


def stack_tails(view: WindowedView, states: Sequence[bytes | None]) -> StackedTails:
    """Many packed tails as one."""
    tails = [unpack_tail(view, state) for state in states]
    lengths = [len(tail.times) for tail in tails]
    return StackedTails(
        times=np.concatenate([tail.times for tail in tails]),
        values=np.concatenate([tail.values for tail in tails]),
        owner=np.repeat(np.arange(len(tails)), lengths),
        count=len(tails),
    )


def evaluate_all(view: WindowedView, tails: StackedTails, as_of: int) -> Floats:
    """`windows.evaluate` for every entity at once: shape (count, len(view.windows))."""
    columns = view.columns
    sums: dict[tuple[int, int, str], Floats] = {}

    def summed(name: str, width: int, delay: int) -> Floats:
        key = (width, delay, name)
        if key not in sums:
            end = as_of - delay
            inside = (tails.times > end - width) & (tails.times <= end)
            values = tails.values[inside, columns.index(name)]
            sums[key] = np.bincount(tails.owner[inside], values, minlength=tails.count).astype(np.float64)
        return sums[key]

    out = np.empty((tails.count, len(view.windows)))
    for i, window in enumerate(view.windows):
        value = summed(window.numerator, window.width_micros, window.delay_micros)
        if window.denominator is not None:
            per = summed(window.denominator, window.width_micros, window.delay_micros)
            value = np.divide(value, per, out=np.zeros(tails.count), where=per != 0)
        out[:, i] = value
    return out


def _catalogue(model: RankerModel, profiles: Mapping[str, VideoProfile]) -> ServedCatalogue:
    video_ids = (*model.video_ids, *profiles)
    new = list(profiles.values())
    categories = np.append(model.categories, [CATEGORIES.index(each.category) for each in new]).astype(np.int64)
    published = np.append(model.published, [each.event_timestamp for each in new]).astype(np.int64)
    return ServedCatalogue(
        model=model,
        video_ids=video_ids,
        index={video_id: i for i, video_id in enumerate(video_ids)},
        categories=categories,
        category_list=categories.tolist(),
        durations=np.append(model.durations, [each.duration_seconds for each in new]).astype(np.float64),
        published=published,
        newest=tuple(np.argsort(-published, kind="stable")[: NEWEST_VIDEOS.length].tolist()),
        tails=None,
        state_times=(None,) * len(video_ids),
        read_at=None,
    )
