"""Folds: states equal a recount of the events, to the byte, whatever the order and the cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_events import NOW, example
from stream_harness import BY_NAME, Arrival, apply, arrivals_of, at, new_file, open_state, stored

from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.features.stream import state_updates as stream_folds
from reference_system.features.stream.state import StreamState
from reference_system.features.stream.state_rows import Addition
from reference_system.features.stream.state_updates import fold
from reference_system.use_cases import VIEWS
from reference_system.windows import (
    EVERYONE,
    SNAP,
    Is,
    RecentItems,
    Rows,
    View,
    WindowedView,
    empty_tail,
    evaluate,
    extend,
    ratio,
    total,
    unpack_tail,
)

T0 = micros(NOW)
HOUR = MICROS_PER_DAY // 24


def view_of(*, tile: timedelta | None) -> WindowedView:
    return WindowedView(
        name="payments",
        entity="customer_id",
        rows=(Rows(topic="transactions", entity="customer_id", values=(("amount", "amount"), ("count", 1.0))),),
        windows=(total("count_1d", "count", days=1, delay_days=1), ratio("mean_2d", "amount", "count", days=2)),
        tile=tile,
    )


EXACT, TILED = view_of(tile=None), view_of(tile=timedelta(hours=6))
SIX_HOURS = 6 * HOUR


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_file(tmp_path)


@pytest.fixture
def state(path: Path) -> Iterator[StreamState]:
    with closing(open_state(path)) as state:
        yield state


# A recount


def rows_of(view: WindowedView, arrivals: Sequence[Arrival], wanted: str) -> list[tuple[int, np.ndarray]]:
    """An entity's rows, read from the declaration event by event: (time, values)."""
    found = []
    taken_back = {each.event.chargeback_id for each in arrivals if each.topic.name == "chargeback-reversals"}
    disputed = set()
    for each in arrivals:
        for rows in view.rows:
            if rows.topic != each.topic.name:
                continue
            event = each.event
            if rows.known_within_days is not None:
                known_after = event.created_timestamp - event.event_timestamp
                if known_after > timedelta(days=rows.known_within_days):
                    continue
            if rows.once is not None:
                if event.chargeback_id in taken_back or event.transaction_id in disputed:
                    continue
                disputed.add(event.transaction_id)
            values = np.zeros(len(view.columns))
            for name, value in rows.values:
                if isinstance(value, Is):
                    number = float(getattr(event, value.field) == value.value)
                else:
                    number = float(getattr(event, value)) if isinstance(value, str) else value
                values[view.columns.index(name)] = number
            keys = getattr(event, rows.entity)
            found += [(micros(event.event_timestamp), values)] * (keys if rows.explode else [keys]).count(wanted)
    return found


def recount(view: WindowedView, arrivals: Sequence[Arrival], key: str, as_of: int) -> list[float]:
    """The features from all rows of the entity, one by one."""
    rows = rows_of(view, arrivals, key)
    tile = view.tile_micros or 1
    values = []
    for window in view.windows:
        end = as_of - window.delay_micros
        inside = [row for time, row in rows if end - window.width_micros < -(-time // tile) * tile <= end]
        sums = np.sum(inside, axis=0) if inside else np.zeros(len(view.columns))
        value = sums[view.columns.index(window.numerator)]
        if window.denominator is not None:
            per = sums[view.columns.index(window.denominator)]
            value = value / per if per else 0.0
        values.append(float(value))
    return values


WINDOWED = [view.name for view in VIEWS if isinstance(view, WindowedView) and not view.name.endswith("_ratings")]


@pytest.mark.parametrize("name", WINDOWED)
def test_a_windowed_state_gives_what_a_recount_of_the_events_gives(name: str, state: StreamState, path: Path):
    arrivals = arrivals_of(6, 1_000)
    for start in range(0, len(arrivals), 97):
        apply(state, arrivals[start : start + 97])
    view = BY_NAME[name]
    found = {key: data for (of, key), (_, data) in stored(path).items() if of == name}
    # Values of tiled views are rounded to parts of 1/SNAP.
    bound = 0.5 * len(arrivals) / SNAP if view.tile_micros else 1e-9
    assert len(found) >= 20
    for key in sorted(found)[:6]:
        for days in (0.0, 0.4, 3.0, 8.0):
            as_of = micros(NOW) + round(days * MICROS_PER_DAY)
            value = evaluate(view, unpack_tail(view, found[key]), as_of)
            assert value == pytest.approx(recount(view, arrivals, key, as_of), abs=bound)


# Order and cuts

# Hours within the lateness bound: tile ends, ties, and a microsecond to either side.
hours = st.one_of(
    st.integers(0, 24).map(lambda n: n * HOUR), st.sampled_from([-1, 1, SIX_HOURS - 1]), st.integers(0, MICROS_PER_DAY)
)
amounts = st.one_of(st.sampled_from([0.0, 1.0, 0.1, 1e6]), st.floats(0.0, 1e6))


def placed(view: WindowedView, time: int, amount: float) -> Addition:
    """What `stream_rows` says of an event."""
    if not view.tile_micros:
        return time, amount + 0.0, 1.0
    return -(-time // view.tile_micros) * view.tile_micros, np.floor(amount * SNAP + 0.5) / SNAP, 1.0


def folded(view: View, additions: Sequence[Addition], cuts: Sequence[int]) -> bytes:
    state, time = None, 0
    for start, end in pairwise([0, *sorted(min(cut, len(additions)) for cut in cuts), len(additions)]):
        if start < end:
            state = fold(view, state, time, list(additions[start:end]))
            time = max(time, *(addition[0] for addition in additions[start:end]))
    return state or b""


def extended(view: WindowedView, additions: Sequence[Addition]) -> bytes:
    """All at once with the arithmetic of `windows.py`."""
    times = np.array([addition[0] for addition in additions], np.int64)
    values = np.array([addition[1:] for addition in additions], np.float64)
    return extend(view, empty_tail(view), times, values).pack()


@st.composite
def lives(draw) -> tuple[WindowedView, list[Addition], list[Addition], list[int]]:
    """A view, a life of a few days in order and as it arrives (at most a day behind), and where polls end."""
    view = draw(st.sampled_from([EXACT, TILED]))
    days = draw(st.lists(st.integers(0, 12), min_size=1, max_size=6))
    rows = [
        (T0 + day * MICROS_PER_DAY + draw(hours), draw(amounts))
        for day in days
        for _ in range(draw(st.integers(1, 6)))
    ]
    if draw(st.booleans()):
        rows += rows[: draw(st.integers(0, 5))]
    delays = [draw(st.integers(0, MICROS_PER_DAY // 2)) for _ in rows]
    arrival = sorted(range(len(rows)), key=lambda n: rows[n][0] + delays[n])
    additions = [placed(view, *row) for row in rows]
    cuts = draw(st.lists(st.integers(0, len(rows)), max_size=8))
    return view, sorted(additions), [additions[n] for n in arrival], cuts


@settings(max_examples=200, deadline=None)
@given(life=lives())
def test_any_order_within_the_bound_and_any_cuts_give_the_same_bytes(life):
    view, in_order, as_arrived, cuts = life
    expected = extended(view, in_order)
    assert folded(view, as_arrived, cuts) == expected
    assert folded(view, as_arrived, range(len(as_arrived))) == expected, "one by one"
    assert folded(view, in_order, cuts) == expected


@settings(max_examples=50, deadline=None)
@given(data=st.data(), view=st.sampled_from([EXACT, TILED]), rows=st.lists(st.tuples(hours, amounts), min_size=1))
def test_rows_of_one_poll_may_come_in_any_order(data: st.DataObject, view: WindowedView, rows):
    additions = [placed(view, T0 + time, amount) for time, amount in rows]
    assert fold(view, None, 0, data.draw(st.permutations(additions))) == extended(view, additions)


@pytest.mark.parametrize("amounts", [(1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (1.0, 1.0, 1.0)])
def test_equal_rows_are_as_many_as_came(amounts: tuple[float, ...]):
    before = [(T0, 1.0, 1.0), (T0 + 5, 1.0, 1.0)]
    for time in (-1, 0, 1, 5, 6):
        added = [(T0 + time, amount, 1.0) for amount in amounts]
        for earlier in ([], [(T0 - 2, 3.0, 1.0)]):
            rows = [*before, *earlier, *added]
            assert folded(EXACT, rows, [2]) == extended(EXACT, rows)


def test_the_short_ways_are_taken_where_they_may_be(monkeypatch: pytest.MonkeyPatch):
    exact = fold(EXACT, None, 0, [(T0, 5.0, 1.0)])
    tiled = fold(TILED, None, 0, [(T0, 5.0, 1.0)])

    def refuse(*_: object) -> bytes:
        pytest.fail("numpy is for what is out of order")

    monkeypatch.setattr(stream_folds, "_merge", refuse)
    assert fold(EXACT, exact, T0, [(T0 + 2, 2.0, 1.0), (T0 + 1, 3.0, 1.0)]) == extended(
        EXACT, [(T0, 5.0, 1.0), (T0 + 1, 3.0, 1.0), (T0 + 2, 2.0, 1.0)]
    )
    later = fold(EXACT, exact, T0, [(T0 + 9, 2.0, 1.0)])
    assert fold(EXACT, later, T0 + 9, [(T0 + 4, 3.0, 1.0)]) == extended(
        EXACT, [(T0, 5.0, 1.0), (T0 + 4, 3.0, 1.0), (T0 + 9, 2.0, 1.0)]
    )
    assert fold(TILED, tiled, T0, [(T0, 0.25, 1.0), (T0, 2.0, 1.0)]) == extended(TILED, [(T0, 7.25, 3.0)])


@pytest.mark.parametrize("rows_before", [0, 1, 3])
@pytest.mark.parametrize("days", [2.9, 3.0, 3.1, 4.0, 40.0])
@pytest.mark.parametrize("view", [EXACT, TILED], ids=["exact", "tiled"])
def test_what_no_request_can_ask_for_is_dropped(view: WindowedView, days: float, rows_before: int):
    assert view.horizon_micros == 2 * MICROS_PER_DAY
    old = [placed(view, T0 + n * SIX_HOURS, 1.0) for n in range(rows_before)]
    new = [placed(view, T0 + round(days * MICROS_PER_DAY), 9.0)]
    state = folded(view, [*old, *new], [rows_before])
    kept = [row for row in (*old, *new) if row[0] > new[0][0] - 3 * MICROS_PER_DAY]
    assert state == folded(view, [*old, *new], []) == extended(view, kept)


def test_a_negative_zero_makes_no_other_bytes():
    rows = [(T0, 0.0, 1.0), (T0 + 1, 0.0, 1.0)]
    negative = [(T0, -0.0 + 0.0, 1.0), (T0 + 1, 0.0, 1.0)]
    assert folded(EXACT, rows, []) == folded(EXACT, negative, [1]) == extended(EXACT, [(T0, -0.0, 1.0), rows[1]])


@settings(max_examples=100, deadline=None)
@given(
    items=st.lists(st.tuples(st.integers(0, 20), st.sampled_from("abcdefg")), min_size=1),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    data=st.data(),
)
def test_recent_items_do_not_depend_on_order_or_cuts(items, cuts, data: st.DataObject):
    view = RecentItems(name="recent", entity="viewer_id", topic="watches", item="video_id", length=len("abcdefg"))
    expected = folded(view, items, [])
    assert folded(view, data.draw(st.permutations(items)), cuts) == expected
    newest = {item: max(time for time, each in items if each == item) for _, item in items}
    ordered = sorted(newest.items(), key=lambda pair: (-pair[1], pair[0]))
    assert msgspec.msgpack.decode(expected) == [[time, item] for item, time in ordered]


# Lists and profiles through the state


def test_recent_items_are_unique_newest_first_and_bounded(state: StreamState):
    for n in range(100):
        watch = example("watches", watch_id=f"w{n}", video_id=f"m{n % 40}", event_timestamp=NOW + timedelta(minutes=n))
        apply(state, [at(watch, n, topic="watches")])
    ((_, rows),) = [each for each in state.unpushed() if each[0].name == "viewer_recent_watches"]
    items = msgspec.msgpack.decode(rows[0][3])
    assert [item for _, item in items] == [f"m{n % 40}" for n in range(99, 69, -1)]
    assert rows[0][1] == items[0][0] == micros(NOW + timedelta(minutes=99))


def test_an_earlier_watch_of_the_same_video_does_not_replace_a_later_one(state: StreamState):
    moments = [NOW, NOW - timedelta(hours=1)]
    watches = [example("watches", watch_id=f"w{n}", event_timestamp=moment) for n, moment in enumerate(moments)]
    apply(state, [at(watch, n, topic="watches") for n, watch in enumerate(watches)])
    ((_, rows),) = [each for each in state.unpushed() if each[0].name == "viewer_recent_watches"]
    assert msgspec.msgpack.decode(rows[0][3]) == [[micros(NOW), "m000001"]]


def test_newest_videos_belong_to_everyone_and_ties_are_ordered_by_name(state: StreamState):
    videos = [example("videos", video_id=name) for name in ("m3", "m1", "m2")]
    apply(state, [at(video, n, topic="videos") for n, video in enumerate(videos)])
    ((_, rows),) = [each for each in state.unpushed() if each[0].name == "newest_videos"]
    assert rows[0][0] == EVERYONE
    assert [item for _, item in msgspec.msgpack.decode(rows[0][3])] == ["m1", "m2", "m3"]


def test_a_profile_holds_the_fields_of_the_latest_event_whatever_the_order():
    view = BY_NAME["video_profile"]
    old, new = {"category": "music"}, {"category": "news"}
    assert msgspec.msgpack.decode(fold(view, None, 0, [(5, new), (3, old)])) == new
    state = fold(view, None, 0, [(5, new)])
    assert fold(view, state, 5, [(3, old)]) == state
    assert msgspec.msgpack.decode(fold(view, state, 5, [(6, old)])) == old


def test_a_profile_has_times_in_microseconds(state: StreamState):
    apply(state, [at(example("videos"), 0, topic="videos")])
    ((_, rows),) = [each for each in state.unpushed() if each[0].name == "video_profile"]
    expected = {"category": "music", "duration_seconds": 240.0, "event_timestamp": micros(NOW)}
    assert rows == [("m000001", micros(NOW), state.sequence, msgspec.msgpack.encode(expected))]
