"""The stream's state: one outcome for each event, one transaction for each poll, states that equal a recount."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_events import NOW, example, stream

from reference_system.errors import StateError
from reference_system.events import Event
from reference_system.features import stream_state
from reference_system.features.stream_folds import Additions, fold
from reference_system.features.stream_rebuild import is_current, rebuild
from reference_system.features.stream_state import StreamState
from reference_system.features.stream_verdicts import DEDUPLICATION_HORIZON, LATE_AFTER, Arrival, Outcome
from reference_system.use_cases import TOPICS, VIEWS, topic_named
from reference_system.windows import EVERYONE, MICROS_PER_DAY, WindowedView, evaluate, micros, rows_of, unpack_tail

BY_NAME = {view.name: view for view in VIEWS}
MICRO = timedelta(microseconds=1)


def new_file(folder: Path) -> Path:
    """An empty state file."""
    path = folder / "state.sqlite"
    path.write_bytes(empty_file())
    return path


@cache
def empty_file() -> bytes:
    """The rebuild of an empty lake, made once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        nothing = Path(folder) / "lake"
        rebuild(path, nothing, TOPICS, VIEWS, count_dead_letters=lambda _: {}, report=lambda _: None)
        return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_file(tmp_path)


@pytest.fixture
def state(path: Path) -> Iterator[StreamState]:
    with closing(StreamState(path, VIEWS)) as state:
        yield state


def at(event: Event | None, offset: int, *, topic: str = "transactions", partition: int = 0) -> Arrival:
    return Arrival(topic_named(topic), partition, offset, event)


def paid(name: str, moment=NOW, **fields) -> Event:
    return example("transactions", transaction_id=name, event_timestamp=moment, **fields)


def arrivals_of(seed: int, count: int, *, partitions: int = 3) -> list[Arrival]:
    """A stream as Kafka would hand it out: spread over partitions by key, numbered in each."""
    ends: Counter[tuple[str, int]] = Counter()
    arrivals = []
    for topic, event in stream(seed, count):
        partition = sum(topic.key_of(event).encode()) % partitions
        arrivals.append(Arrival(topic, partition, ends[topic.name, partition], event))
        ends[topic.name, partition] += 1
    return arrivals


def outcomes(state: StreamState) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_, outcome), count in state.totals().items():
        totals[outcome] += count
    return dict(totals)


def stored(path: Path) -> dict[tuple[str, str], tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as db:
        return {
            (view, key): (time, data)
            for view, key, time, data in db.execute("SELECT view, key, time, state FROM state")
        }


# Outcomes


def test_a_new_event_is_counted_and_is_a_fact_for_the_lake(state: StreamState):
    assert state.apply([at(paid("x1"), 0)]) == [True]
    assert outcomes(state) == {Outcome.COUNTED: 1}
    assert state.next_offsets() == {("transactions", 0): 1}


def test_a_refused_record_moves_the_offset_and_leaves_nothing_else(state: StreamState):
    assert state.apply([at(None, 0)]) == [False]
    assert outcomes(state) == {Outcome.DEAD_LETTERED: 1}
    assert state.next_offsets() == {("transactions", 0): 1}
    assert state.unpushed() == []


@pytest.mark.parametrize("polls", [1, 2])
def test_the_same_event_again_is_a_duplicate_within_a_poll_and_across_polls(state: StreamState, polls: int):
    arrivals = [at(paid("x1"), 0), at(paid("x1"), 1)]
    parts = [arrivals] if polls == 1 else [[each] for each in arrivals]
    assert [first for part in parts for first in state.apply(part)] == [True, False]
    assert outcomes(state) == {Outcome.COUNTED: 1, Outcome.DUPLICATE: 1}
    ((view, rows),) = [each for each in state.unpushed() if each[0].name == "customer_activity"]
    assert len(unpack_tail(view, rows[0][2]).times) == 1


def test_an_id_is_taken_once_per_topic_and_not_across_topics(state: StreamState):
    watch = example("watches", watch_id="x1")
    assert state.apply([at(paid("x1"), 0), at(watch, 0, topic="watches")]) == [True, True]


def test_an_id_may_come_again_only_beyond_the_horizon(state: StreamState):
    later = NOW + DEDUPLICATION_HORIZON
    again = [
        at(paid("x2", later), 1),
        at(paid("x1", later), 2),
        at(paid("x3", later + MICRO), 3),
        at(paid("x1", later), 4),
    ]
    assert state.apply([at(paid("x1"), 0), *again]) == [True, True, False, True, True]


def test_when_ids_are_forgotten_changes_no_verdict(tmp_path: Path):
    verdicts = []
    for forgetting in (False, True):
        folder = tmp_path / str(forgetting)
        folder.mkdir()
        with closing(StreamState(new_file(folder), VIEWS)) as state:
            found = []
            for day in range(30):
                found += state.apply([at(paid(f"x{day % 9}", NOW + timedelta(days=day)), day)])
                if forgetting:
                    state.forget("transactions")
            verdicts.append(found)
    assert verdicts[0] == verdicts[1]
    assert Counter(verdicts[0]) == {True: 30}


def test_forgetting_bounds_the_file(state: StreamState, path: Path):
    for day in range(30):
        state.apply([at(paid(f"x{day}", NOW + timedelta(days=day)), day)])
        state.forget("transactions")
    state.forget("watches")
    with closing(sqlite3.connect(path)) as db:
        (kept,) = db.execute("SELECT count(*) FROM seen").fetchone()
    assert kept == DEDUPLICATION_HORIZON.days + 1


def test_exactly_a_day_behind_is_in_time_and_more_is_late(state: StreamState):
    edge = [at(paid("x1"), 0), at(paid("x2", NOW - LATE_AFTER), 1), at(paid("x3", NOW - LATE_AFTER - MICRO), 2)]
    assert state.apply(edge) == [True, True, True], "late events are facts too"
    assert outcomes(state) == {Outcome.COUNTED: 2, Outcome.LATE: 1}


def test_lateness_is_judged_by_partition(state: StreamState):
    state.apply([at(paid("x1"), 0), at(paid("x2", NOW - 2 * LATE_AFTER), 0, partition=1)])
    assert outcomes(state) == {Outcome.COUNTED: 2}


def test_a_late_event_does_not_move_the_time_back(state: StreamState):
    state.apply([at(paid("x1"), 0)])
    state.apply([at(paid("x2", NOW - 2 * LATE_AFTER), 1)])
    state.apply([at(paid("x3", NOW - 2 * LATE_AFTER), 2)])
    assert outcomes(state) == {Outcome.COUNTED: 1, Outcome.LATE: 2}


def test_a_label_is_as_old_as_our_knowledge_of_it(state: StreamState):
    labels = [
        example("chargebacks", chargeback_id=f"b{n}", event_timestamp=NOW - timedelta(days=6 - n)) for n in (5, 0)
    ]
    state.apply([at(label, n, topic="chargebacks") for n, label in enumerate(labels)])
    assert outcomes(state) == {Outcome.COUNTED: 2}
    ((view, rows),) = state.unpushed()
    assert view.name == "terminal_risk"
    assert rows[0][:2] == ("t000001", micros(NOW)), "the state's time is the moment from which we know"


# Once and only once


def test_applying_a_poll_again_changes_nothing_and_answers_the_same(state: StreamState, path: Path):
    arrivals = [at(paid("x1"), 0), at(paid("x1"), 1), at(None, 2), at(paid("x2", NOW - 2 * LATE_AFTER), 3)]
    answers = state.apply(arrivals)
    totals, states = state.totals(), stored(path)
    assert state.apply(arrivals) == answers == [True, False, False, True]
    assert state.totals() == totals
    assert stored(path) == states


def test_an_event_that_was_refused_once_is_not_counted_when_it_is_read_again(state: StreamState):
    state.apply([at(None, 0)])
    assert state.apply([at(paid("x1"), 0)]) == [False]
    assert outcomes(state) == {Outcome.DEAD_LETTERED: 1}


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=4), again=st.integers(0, 60))
def test_where_polls_end_and_how_often_they_are_read_does_not_matter(
    cuts: list[int], again: int, tmp_path_factory: pytest.TempPathFactory
):
    arrivals = arrivals_of(5, 200)
    whole, parts = (new_file(tmp_path_factory.mktemp("state")) for _ in range(2))
    with closing(StreamState(whole, VIEWS)) as state:
        state.apply(arrivals)
        totals = state.totals()
    edges = [0, *sorted(cuts), len(arrivals)]
    for start, end in pairwise(edges):
        with closing(StreamState(parts, VIEWS)) as state:
            state.apply(arrivals[max(0, start - again) : end])
            last = state.totals()
    assert last == totals
    assert_equal_states(stored(whole), stored(parts))


def test_a_failure_in_the_middle_of_the_transaction_leaves_nothing(
    state: StreamState, path: Path, monkeypatch: pytest.MonkeyPatch
):
    state.apply([at(paid("x1"), 0)])
    before = stored(path), state.totals(), state.next_offsets()
    # A value that SQLite cannot store fails after the offsets and totals were written.
    monkeypatch.setattr(stream_state, "fold", lambda *_: object())
    with pytest.raises(sqlite3.Error):
        state.apply([at(paid("x2"), 1)])
    assert (stored(path), state.totals(), state.next_offsets()) == before
    monkeypatch.undo()
    assert state.apply([at(paid("x2"), 1)]) == [True]


def test_a_second_writer_is_refused_and_changes_nothing(state: StreamState, path: Path):
    with closing(StreamState(path, VIEWS)) as zombie:
        state.apply([at(paid("x1"), 0)])
        before = stored(path)
        with pytest.raises(StateError, match="another ingestion"):
            zombie.apply([at(paid("x9"), 0)])
        assert stored(path) == before


# Pushing


def test_states_stay_marked_until_they_are_pushed_even_across_a_crash(path: Path):
    crashed = StreamState(path, VIEWS)
    crashed.apply([at(paid("x1"), 0)])
    waiting = crashed.unpushed()
    with closing(StreamState(path, VIEWS)) as state:
        assert state.unpushed() == waiting
        assert {view.name for view, _ in waiting} == {"customer_activity", "terminal_risk"}
        state.mark_pushed()
        assert state.unpushed() == []
    with closing(StreamState(path, VIEWS)) as state:
        assert state.unpushed() == []


def test_a_poll_without_states_does_not_hide_later_ones(path: Path):
    with closing(StreamState(path, VIEWS)) as state:
        for offset in range(3):
            state.apply([at(None, offset)])
            state.mark_pushed()
    crashed = StreamState(path, VIEWS)
    crashed.apply([at(paid("x1"), 3)])
    with closing(StreamState(path, VIEWS)) as state:
        assert {view.name for view, _ in state.unpushed()} == {"customer_activity", "terminal_risk"}


def test_only_what_changed_is_pushed(state: StreamState):
    state.apply([at(paid("x1", customer_id="c1"), 0), at(paid("x2", customer_id="c2"), 1)])
    state.mark_pushed()
    state.apply([at(paid("x3", customer_id="c2"), 2)])
    changed = {view.name: [row[0] for row in rows] for view, rows in state.unpushed()}
    assert changed == {"customer_activity": ["c2"], "terminal_risk": ["t000001"]}


# Values


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    for (name, key), (time, data) in one.items():
        view = BY_NAME[name]
        assert other[name, key][0] == time
        if not isinstance(view, WindowedView):
            assert other[name, key][1] == data
            continue
        ours, theirs = unpack_tail(view, data), unpack_tail(view, other[name, key][1])
        assert np.array_equal(ours.times, theirs.times)
        assert np.allclose(ours.values, theirs.values, rtol=0, atol=1e-9)


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


# The file


def test_a_file_for_other_declarations_is_not_current(path: Path):
    assert is_current(path, VIEWS)
    changed = tuple(replace(view, length=31) if view.name == "newest_videos" else view for view in VIEWS)
    assert not is_current(path, changed)
    assert not is_current(path.with_name("absent"), VIEWS)


def test_a_file_that_is_no_state_is_named_with_what_mends_it(tmp_path: Path):
    broken = tmp_path / "state.sqlite"
    broken.write_bytes(b"this is no database, however long it may be" * 50)
    with pytest.raises(StateError, match=r"state\.sqlite") as raised:
        StreamState(broken, VIEWS)
    assert raised.value.next_command == f"rm {broken}"
