"""The stream's state: one outcome for each event, one transaction for each poll, states that equal a recount."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_events import NOW, example
from stream_harness import MICRO, arrivals_of, assert_equal_states, at, new_file, outcomes, paid, stored

from reference_system.errors import StateError
from reference_system.features import stream_state
from reference_system.features.stream_rebuild import is_current
from reference_system.features.stream_state import StreamState
from reference_system.features.stream_verdicts import DEDUPLICATION_HORIZON, LATE_AFTER, Outcome
from reference_system.use_cases import VIEWS
from reference_system.windows import micros, unpack_tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_file(tmp_path)


@pytest.fixture
def state(path: Path) -> Iterator[StreamState]:
    with closing(StreamState(path, VIEWS)) as state:
        yield state


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
