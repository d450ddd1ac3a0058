"""A task's state: one outcome for each event, one transaction for each poll, states that equal a recount."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_events import NOW, example
from stream_harness import (
    MICRO,
    apply,
    at,
    batches_of,
    new_file,
    numbered,
    open_state,
    outcomes,
    paid,
    rough_messages,
    stored,
)

from reference_system.errors import StateError
from reference_system.event_time import micros
from reference_system.features.stream import state as stream_state
from reference_system.features.stream import task_file
from reference_system.features.stream.deduplication import DEDUPLICATION_HORIZON, LATE_AFTER, Outcome
from reference_system.features.stream.rebuild import is_current
from reference_system.features.stream.snapshot import digest, snapshot, snapshots
from reference_system.features.stream.state import StreamState
from reference_system.features.stream.task_file import forget_pushed
from reference_system.use_cases import VIEWS
from reference_system.windows import unpack_tail

COUNTED, LATE, DUPLICATE, REFUSED = Outcome.COUNTED, Outcome.LATE, Outcome.DUPLICATE, Outcome.DEAD_LETTERED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_file(tmp_path)


@pytest.fixture
def state(path: Path) -> Iterator[StreamState]:
    with closing(open_state(path)) as state:
        yield state


# Outcomes


def test_a_new_event_is_counted(state: StreamState):
    assert apply(state, [at(paid("x1"), 0)]) == [COUNTED]
    assert outcomes(state) == {COUNTED: 1}
    assert state.next_offsets()["transactions"] == 1


def test_a_refused_record_moves_the_offset_and_leaves_nothing_else(state: StreamState):
    assert apply(state, [at(None, 0)]) == [REFUSED]
    assert outcomes(state) == {REFUSED: 1}
    assert state.next_offsets()["transactions"] == 1
    assert state.unpushed() == []


@pytest.mark.parametrize("polls", [1, 2])
def test_the_same_event_again_is_a_duplicate_within_a_poll_and_across_polls(state: StreamState, polls: int):
    arrivals = [at(paid("x1"), 0), at(paid("x1"), 1)]
    parts = [arrivals] if polls == 1 else [[each] for each in arrivals]
    assert [verdict for part in parts for verdict in apply(state, part)] == [COUNTED, DUPLICATE]
    assert outcomes(state) == {COUNTED: 1, DUPLICATE: 1}
    ((view, rows),) = [each for each in state.unpushed() if each[0].name == "customer_activity"]
    assert len(unpack_tail(view, rows[0][3]).times) == 1


def test_a_duplicate_is_recognised_after_a_restart(path: Path):
    with closing(open_state(path)) as state:
        apply(state, [at(paid("x1"), 0)])
    with closing(open_state(path)) as state:
        assert apply(state, [at(paid("x1"), 1)]) == [DUPLICATE]


def test_an_id_is_taken_once_per_topic_and_not_across_topics(state: StreamState):
    watch = example("watches", watch_id="x1")
    assert apply(state, [at(paid("x1"), 0), at(watch, 0, topic="watches")]) == [COUNTED, COUNTED]


def test_an_id_may_come_again_only_beyond_the_horizon(state: StreamState):
    later = NOW + DEDUPLICATION_HORIZON
    again = [
        at(paid("x2", later), 1),
        at(paid("x1", later), 2),
        at(paid("x3", later + MICRO), 3),
        at(paid("x1", later), 4),
    ]
    assert apply(state, [at(paid("x1"), 0), *again]) == [COUNTED, COUNTED, DUPLICATE, COUNTED, COUNTED]


def test_when_ids_are_forgotten_changes_no_verdict(tmp_path: Path):
    verdicts = []
    for forgetting in (False, True):
        with closing(open_state(new_file(tmp_path / str(forgetting)))) as state:
            found = []
            for day in range(30):
                found += apply(state, [at(paid(f"x{day % 9}", NOW + timedelta(days=day)), 2 * day)])
                found += apply(state, [at(paid(f"x{day % 9}", NOW + timedelta(days=day)), 2 * day + 1)])
                if forgetting:
                    state.forget("transactions")
            verdicts.append(found)
    assert verdicts[0] == verdicts[1]
    assert Counter(verdicts[0]) == {COUNTED: 30, DUPLICATE: 30}


def test_forgetting_bounds_the_file(state: StreamState, path: Path):
    for day in range(30):
        apply(state, [at(paid(f"x{day}", NOW + timedelta(days=day)), day)])
        state.forget("transactions")
    state.forget("watches")
    with closing(sqlite3.connect(path)) as db:
        (kept,) = db.execute("SELECT count(*) FROM seen").fetchone()
    assert kept == DEDUPLICATION_HORIZON.days + 1


def test_exactly_a_day_behind_is_in_time_and_more_is_late(state: StreamState):
    edge = [at(paid("x1"), 0), at(paid("x2", NOW - LATE_AFTER), 1), at(paid("x3", NOW - LATE_AFTER - MICRO), 2)]
    assert apply(state, edge) == [COUNTED, COUNTED, LATE]
    assert outcomes(state) == {COUNTED: 2, LATE: 1}


def test_a_late_event_is_in_no_window(state: StreamState):
    apply(state, [at(paid("x1"), 0), at(paid("x2", NOW - 2 * LATE_AFTER), 1)])
    for view, rows in state.unpushed():
        assert len(unpack_tail(view, rows[0][3]).times) == 1


def test_lateness_is_judged_by_topic(state: StreamState):
    old = example("watches", event_timestamp=NOW - 2 * LATE_AFTER)
    assert apply(state, [at(paid("x1"), 0), at(old, 0, topic="watches")]) == [COUNTED, COUNTED]


def test_a_late_event_does_not_move_the_time_back(state: StreamState):
    apply(state, [at(paid("x1"), 0)])
    apply(state, [at(paid("x2", NOW - 2 * LATE_AFTER), 1)])
    apply(state, [at(paid("x3", NOW - 2 * LATE_AFTER), 2)])
    assert outcomes(state) == {COUNTED: 1, LATE: 2}


def test_a_label_is_as_old_as_our_knowledge_of_it(state: StreamState):
    labels = [
        example("chargebacks", chargeback_id=f"b{n}", event_timestamp=NOW - timedelta(days=6 - n)) for n in (5, 0)
    ]
    apply(state, [at(label, n, topic="chargebacks") for n, label in enumerate(labels)])
    assert outcomes(state) == {COUNTED: 2}
    ((view, rows),) = state.unpushed()
    assert view.name == "terminal_risk"
    assert rows[0][:2] == ("t000001", micros(NOW)), "the state's time is the moment from which we know"


# Once and only once


def test_applying_a_poll_again_changes_nothing_and_answers_the_same(state: StreamState, path: Path):
    arrivals = [at(paid("x1"), 0), at(paid("x1"), 1), at(None, 2), at(paid("x2", NOW - 2 * LATE_AFTER), 3)]
    answers = apply(state, arrivals)
    totals, states = state.totals(), stored(path)
    assert apply(state, arrivals) == answers == [COUNTED, DUPLICATE, REFUSED, LATE]
    assert state.totals() == totals
    assert stored(path) == states


def test_an_event_that_was_refused_once_is_not_counted_when_it_is_read_again(state: StreamState):
    apply(state, [at(None, 0)])
    assert apply(state, [at(paid("x1"), 0)]) == [DUPLICATE], "nothing that belongs in the lake"
    assert outcomes(state) == {REFUSED: 1}


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=4), again=st.integers(0, 60), clean=st.booleans())
def test_where_polls_end_and_how_often_they_are_read_does_not_matter(
    cuts: list[int],
    again: int,
    clean: bool,  # noqa: FBT001 - whether consumers stop in order
    tmp_path_factory: pytest.TempPathFactory,
):
    arrivals = numbered(rough_messages(5, 180))
    whole, parts = (new_file(tmp_path_factory.mktemp("state")) for _ in range(2))
    with closing(open_state(whole)) as state:
        expected = dict(zip([each.place for each in arrivals], apply(state, arrivals), strict=True))
    for start, end in pairwise([0, *sorted(cuts), len(arrivals)]):
        state = open_state(parts)
        poll = arrivals[max(0, start - again) : end]
        if poll:
            assert apply(state, poll) == [expected[each.place] for each in poll]
        if clean:
            state.close()
    assert stored(whole) == stored(parts)
    assert digest([snapshot(whole)]) == digest([snapshot(parts)])


def test_a_failure_in_the_middle_of_the_transaction_leaves_nothing(
    state: StreamState, path: Path, monkeypatch: pytest.MonkeyPatch
):
    apply(state, [at(paid("x1"), 0)])
    before = stored(path), state.totals(), state.next_offsets(), state.unpushed()
    # A value that SQLite cannot store fails after the offsets and totals were written.
    monkeypatch.setattr(stream_state, "fold", lambda *_: object())
    with pytest.raises(sqlite3.Error):
        apply(state, [at(paid("x2"), 1)])
    assert (stored(path), state.totals(), state.next_offsets(), state.unpushed()) == before
    monkeypatch.undo()
    assert apply(state, [at(paid("x2"), 1)]) == [COUNTED]


# Epochs


def test_whoever_opens_a_task_fences_its_former_owner(path: Path):
    zombie = open_state(path)
    apply(zombie, [at(paid("x1"), 0)])
    with closing(open_state(path)) as owner:
        apply(owner, [at(paid("x2", NOW + DEDUPLICATION_HORIZON), 1)])
        before = stored(path), snapshots(path.parent)
        refused = pytest.raises(StateError, match="another consumer took over task 0")
        with refused:
            apply(zombie, [at(paid("x9"), 2)])
        with refused, zombie.fenced():
            pytest.fail("nothing may be committed to the lake")
        zombie._newest["transactions"] = micros(NOW + 2 * DEDUPLICATION_HORIZON)
        with refused:
            zombie.forget("transactions")
        assert (stored(path), snapshots(path.parent)) == before
        assert apply(owner, [at(paid("x1", NOW + DEDUPLICATION_HORIZON), 2)]) == [DUPLICATE], "no id was forgotten"
        zombie.mark_pushed()
        zombie.close()
    with closing(open_state(path)) as state:
        assert state.unpushed(), "what the former owner thinks of them says nothing"


def test_a_task_that_is_held_cannot_be_taken_over(path: Path, monkeypatch: pytest.MonkeyPatch):
    connect = task_file.open_task_file

    def impatient(path: Path) -> sqlite3.Connection:
        db = connect(path)
        db.execute("PRAGMA busy_timeout = 20")
        return db

    with closing(open_state(path)) as owner:
        with owner.fenced():
            monkeypatch.setattr(task_file, "open_task_file", impatient)
            with pytest.raises(StateError, match="locked") as raised:
                open_state(path)
            assert raised.value.next_command == "workbook status", "there is nothing to remove"
        apply(owner, [at(paid("x1"), 0)])
    with closing(open_state(path)) as state:
        assert outcomes(state) == {COUNTED: 1}


# Pushing


def test_states_stay_marked_until_they_are_pushed_even_across_a_crash(path: Path):
    crashed = open_state(path)
    apply(crashed, [at(paid("x1"), 0)])
    waiting = crashed.unpushed()
    with closing(open_state(path)) as state:
        assert state.unpushed() == waiting
        assert {view.name for view, _ in waiting} == {"customer_activity", "terminal_risk"}
        state.mark_pushed()
        assert state.unpushed() == []
    with closing(open_state(path)) as state:
        assert state.unpushed() == []


def test_for_an_online_store_that_is_gone_every_state_is_pushed_again(path: Path):
    with closing(open_state(path)) as state:
        apply(state, [at(paid("x1"), 0)])
        waiting = state.unpushed()
        state.mark_pushed()
    forget_pushed([path])
    with closing(open_state(path)) as state:
        assert state.unpushed() == waiting


def test_a_poll_without_states_does_not_hide_later_ones(path: Path):
    with closing(open_state(path)) as state:
        for offset in range(3):
            apply(state, [at(None, offset)])
            state.mark_pushed()
    crashed = open_state(path)
    apply(crashed, [at(paid("x1"), 3)])
    with closing(open_state(path)) as state:
        assert {view.name for view, _ in state.unpushed()} == {"customer_activity", "terminal_risk"}


def test_only_what_changed_is_pushed(state: StreamState):
    apply(state, [at(paid("x1", customer_id="c1"), 0), at(paid("x2", customer_id="c2"), 1)])
    state.mark_pushed()
    apply(state, [at(paid("x3", customer_id="c2"), 2)])
    changed = {view.name: [row[0] for row in rows] for view, rows in state.unpushed()}
    assert changed == {"customer_activity": ["c2"], "terminal_risk": ["t000001"]}


def test_of_two_values_of_one_moment_the_later_has_the_higher_sequence(state: StreamState):
    begin, sequences = state.sequence, []
    for offset in range(3):
        apply(state, [at(paid(f"x{offset}"), offset)])
        sequences += [row[2] for view, rows in state.unpushed() if view.name == "customer_activity" for row in rows]
    assert sequences == [begin + 1, begin + 2, begin + 3]


def test_states_that_memory_no_longer_holds_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    arrivals = numbered(rough_messages(6, 300))
    paths = [new_file(tmp_path / name) for name in ("kept", "dropped")]
    for path, size in zip(paths, (stream_state._CACHE_BYTES, 2_000), strict=True):
        monkeypatch.setattr(stream_state, "_CACHE_BYTES", size)
        with closing(open_state(path)) as state:
            for start in range(0, len(arrivals), 20):
                apply(state, arrivals[start : start + 20])
    assert stored(paths[0]) == stored(paths[1])


# The file


def test_a_file_for_other_declarations_or_another_number_of_tasks_is_not_current(path: Path):
    assert is_current(path, VIEWS, 1)
    changed = tuple(replace(view, length=31) if view.name == "newest_videos" else view for view in VIEWS)
    assert not is_current(path, changed, 1)
    assert not is_current(path, VIEWS, 2)
    assert not is_current(path.with_name("absent"), VIEWS, 1)


def test_a_file_that_is_no_state_is_named_with_what_mends_it(tmp_path: Path):
    broken = tmp_path / "task-0.sqlite"
    broken.write_bytes(b"this is no database, however long it may be" * 50)
    for read in (open_state, snapshot):
        with pytest.raises(StateError, match=r"task-0\.sqlite") as raised:
            read(broken)
        assert raised.value.next_command == f"rm {broken}"


def test_a_snapshot_beside_the_consumer_is_of_one_moment(state: StreamState, path: Path):
    arrivals = numbered(rough_messages(7, 200))
    for start in range(0, len(arrivals), 25):
        state.apply(batches_of(arrivals[start : start + 25]))
        found = snapshot(path)
        assert sum(found.totals.values()) == sum(found.positions.values()) == start + len(arrivals[start : start + 25])
        assert {(view, key): (time, data) for view, key, time, data in found.states} == stored(path)
        assert (found.task, found.epoch) == (0, 1)


def test_a_digest_is_of_every_byte_position_and_total_and_of_nothing_else(path: Path):
    one = snapshot(path)
    with closing(open_state(path)) as state:
        apply(state, [at(paid("x1", amount=1.0), 0)])
    other = snapshot(path)
    changes = [
        {"states": [(view, key, time, data[:-1] + b"\1") for view, key, time, data in other.states]},
        {"states": [(view, key, time + 1, data) for view, key, time, data in other.states]},
        {"states": other.states[1:]},
        {"positions": {**other.positions, "transactions": 2}},
        {"totals": {("transactions", "counted"): 2}},
        {"totals": {("transactions", "late"): 1}},
        {"task": 1},
    ]
    different = [one, other, *(msgspec.structs.replace(other, **change) for change in changes)]
    assert len({digest([each]) for each in different}) == len(different)
    same = msgspec.structs.replace(other, epoch=9, totals={**other.totals, ("watches", "late"): 0})
    assert digest([same]) == digest([other]), "who consumed it does not matter"


def test_without_task_files_there_is_no_digest(tmp_path: Path):
    with pytest.raises(StateError, match="no stream state"):
        snapshots(tmp_path)
