"""States equal a recount of the events, whatever the order and the cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest
from sample_events import NOW, example
from stream_harness import BY_NAME, arrivals_of, at, new_file, stored

from reference_system.features.stream_folds import Additions, fold
from reference_system.features.stream_state import StreamState
from reference_system.features.stream_verdicts import Arrival
from reference_system.use_cases import VIEWS
from reference_system.windows import EVERYONE, MICROS_PER_DAY, WindowedView, evaluate, micros, rows_of, unpack_tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_file(tmp_path)


@pytest.fixture
def state(path: Path) -> Iterator[StreamState]:
    with closing(StreamState(path, VIEWS)) as state:
        yield state


def recount(view: WindowedView, arrivals: Sequence[Arrival], key: str, as_of: int) -> list[float]:
    """The features from all rows of the entity, one by one."""
    rows = [row for each in arrivals for row in rows_of(view, each.topic.name, each.event) if row[0] == key]
    tile = view.tile_micros or 1
    values = []
    for window in view.windows:
        end = as_of - window.delay_micros
        inside = [row for _, time, row in rows if end - window.width_micros < -(-time // tile) * tile <= end]
        sums = np.sum(inside, axis=0) if inside else np.zeros(len(view.columns))
        value = sums[view.columns.index(window.numerator)]
        if window.denominator is not None:
            per = sums[view.columns.index(window.denominator)]
            value = value / per if per else 0.0
        values.append(float(value))
    return values


@pytest.mark.parametrize("name", [view.name for view in VIEWS if isinstance(view, WindowedView)])
def test_a_windowed_state_gives_what_a_recount_of_the_events_gives(name: str, state: StreamState, path: Path):
    arrivals = arrivals_of(6, 1_500)
    for start in range(0, len(arrivals), 97):
        state.apply(arrivals[start : start + 97])
    view = BY_NAME[name]
    found = {key: data for (of, key), (_, data) in stored(path).items() if of == name}
    assert len(found) >= 20
    for key in sorted(found)[:10]:
        for days in (0.0, 0.4, 3.0, 8.0):
            as_of = micros(NOW) + round(days * MICROS_PER_DAY)
            value = evaluate(view, unpack_tail(view, found[key]), as_of)
            assert value == pytest.approx(recount(view, arrivals, key, as_of), abs=1e-9)


def test_recent_items_are_unique_newest_first_and_bounded(state: StreamState):
    watches = [
        example("watches", watch_id=f"w{n}", video_id=f"m{n % 40}", event_timestamp=NOW + timedelta(minutes=n))
        for n in range(100)
    ]
    for n, watch in enumerate(watches):
        state.apply([at(watch, n, topic="watches")])
    ((_, rows),) = [each for each in state.unpushed() if each[0].name == "viewer_recent_watches"]
    items = msgspec.msgpack.decode(rows[0][2])
    assert [item for _, item in items] == [f"m{n % 40}" for n in range(99, 69, -1)]
    assert rows[0][1] == items[0][0] == micros(NOW + timedelta(minutes=99))


def test_an_earlier_watch_of_the_same_video_does_not_replace_a_later_one(state: StreamState):
    moments = [NOW, NOW - timedelta(hours=1)]
    watches = [example("watches", watch_id=f"w{n}", event_timestamp=moment) for n, moment in enumerate(moments)]
    state.apply([at(watch, n, topic="watches") for n, watch in enumerate(watches)])
    ((_, rows),) = [each for each in state.unpushed() if each[0].name == "viewer_recent_watches"]
    assert msgspec.msgpack.decode(rows[0][2]) == [[micros(NOW), "m000001"]]


def test_newest_videos_belong_to_everyone_and_ties_are_ordered_by_name(state: StreamState):
    videos = [example("videos", video_id=name) for name in ("m3", "m1", "m2")]
    state.apply([at(video, n, topic="videos") for n, video in enumerate(videos)])
    ((_, rows),) = [each for each in state.unpushed() if each[0].name == "newest_videos"]
    assert rows[0][0] == EVERYONE
    assert [item for _, item in msgspec.msgpack.decode(rows[0][2])] == ["m1", "m2", "m3"]


def test_a_profile_holds_the_fields_of_the_latest_event_whatever_the_order():
    view = BY_NAME["video_profile"]
    old, new = {"category": "music"}, {"category": "news"}
    assert msgspec.msgpack.decode(fold(view, None, 0, Additions(5, [5, 3], [new, old]))) == new
    state = fold(view, None, 0, Additions(5, [5], [new]))
    assert fold(view, state, 5, Additions(3, [3], [old])) == state
    assert msgspec.msgpack.decode(fold(view, state, 5, Additions(5, [5], [old]))) == old, "a tie: the last to come"


def test_a_profile_has_times_in_microseconds(state: StreamState):
    state.apply([at(example("videos"), 0, topic="videos")])
    ((_, rows),) = [each for each in state.unpushed() if each[0].name == "video_profile"]
    expected = {"category": "music", "duration_seconds": 240.0, "event_timestamp": micros(NOW)}
    assert rows == [("m000001", micros(NOW), msgspec.msgpack.encode(expected))]
