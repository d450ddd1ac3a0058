"""Task files from the lake: as if the stream had never stopped, to the byte."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sample_events import NOW, example, stream
from stream_harness import (
    Arrival,
    apply,
    arrivals_of,
    at,
    build,
    new_file,
    numbered,
    open_state,
    outcomes,
    paid,
    rough_messages,
    stored,
    to_lake,
)

from reference_system.events import Event, PartitionKey
from reference_system.features.stream.deduplication import DEDUPLICATION_HORIZON, LATE_AFTER, Outcome
from reference_system.features.stream.rebuild import rebuild_tasks
from reference_system.features.stream.snapshot import TaskSnapshot, digest, snapshot, task_file
from reference_system.lake import delta_lake
from reference_system.reported_rows import memory_in, rows_of
from reference_system.use_cases import TOPICS, VIEWS, topic_named


def refused_in(arrivals: Sequence[Arrival]) -> dict[PartitionKey, list[int]]:
    found: dict[PartitionKey, list[int]] = {}
    for each in arrivals:
        if each.event is None:
            found.setdefault((each.topic.name, each.partition), []).append(each.offset)
    return found


def lived_and_rebuilt(folder: Path, arrivals: Sequence[Arrival]) -> tuple[TaskSnapshot, TaskSnapshot]:
    """What one task holds after these arrivals, and what the lake makes of them."""
    live = new_file(folder / "live")
    with closing(open_state(live)) as state:
        verdicts = apply(state, arrivals)
    to_lake(folder / "lake", arrivals, verdicts)
    build(folder / "rebuilt", folder / "lake", refused=refused_in(arrivals))
    return snapshot(live), snapshot(task_file(folder / "rebuilt", 0))


def assert_equal(lived: TaskSnapshot, rebuilt: TaskSnapshot) -> None:
    # One by one first: they say what differs.
    assert rebuilt.totals == lived.totals
    assert rebuilt.positions == lived.positions
    assert rebuilt.states == lived.states
    assert digest([rebuilt]) == digest([lived])


def test_a_rebuilt_task_equals_the_lost_one_and_goes_on_as_it_would_have(tmp_path: Path):
    messages = numbered(rough_messages(7, 700))
    arrivals, rest = messages[:600], messages[600:]
    with closing(open_state(new_file(tmp_path / "live"))) as state:
        to_lake(tmp_path / "lake", arrivals, apply(state, arrivals))
        before = state.totals()
        build(tmp_path / "rebuilt", tmp_path / "lake", refused=refused_in(arrivals))
        assert_equal(snapshot(task_file(tmp_path / "live", 0)), snapshot(task_file(tmp_path / "rebuilt", 0)))
        with closing(open_state(task_file(tmp_path / "rebuilt", 0))) as again:
            apply(again, arrivals)
            assert again.totals() == before, "nothing of it is new"
            assert apply(again, rest) == apply(state, rest)
    assert_equal(snapshot(task_file(tmp_path / "live", 0)), snapshot(task_file(tmp_path / "rebuilt", 0)))


def test_every_state_of_a_rebuilt_task_is_pushed(tmp_path: Path):
    arrivals = arrivals_of(1, 100)
    _, rebuilt = lived_and_rebuilt(tmp_path, arrivals)
    with closing(open_state(task_file(tmp_path / "rebuilt", 0))) as state:
        waiting = {(view.name, row[0]) for view, rows in state.unpushed() for row in rows}
    assert waiting == {(view, key) for view, key, *_ in rebuilt.states}


def test_what_a_rebuilt_task_pushes_wins_over_what_the_lost_one_pushed(tmp_path: Path):
    arrivals = arrivals_of(2, 60)
    with closing(open_state(new_file(tmp_path / "live"))) as state:
        verdicts = apply(state, arrivals)
        pushed = state.sequence
    # The lake was behind.
    to_lake(tmp_path / "lake", arrivals[:30], verdicts[:30])
    build(tmp_path / "rebuilt", tmp_path / "lake")
    with closing(open_state(task_file(tmp_path / "rebuilt", 0))) as state:
        assert all(row[2] > pushed for _, rows in state.unpushed() for row in rows)
        assert state.sequence > pushed


def test_the_outcomes_of_before_are_found_again_for_each_task(tmp_path: Path):
    late = paid("x2", NOW - LATE_AFTER - timedelta(seconds=1))
    of_tasks = [
        [at(paid("x1"), 0), at(None, 1), at(late, 2), at(paid("x1"), 3), at(late, 4)],
        [at(None, 0, partition=1)],
    ]
    before = []
    for task, arrivals in enumerate(of_tasks):
        with closing(open_state(new_file(tmp_path / "live", task=task, tasks=2), task=task, tasks=2)) as state:
            to_lake(tmp_path / "lake", arrivals, apply(state, arrivals))
            before.append(outcomes(state))
    asked: list[Mapping[PartitionKey, int]] = []

    def count(below: Mapping[PartitionKey, int]) -> dict[str, int]:
        asked.append(below)
        return {"transactions": 1}

    folder, lake = tmp_path / "rebuilt", tmp_path / "lake"
    rebuild_tasks(folder, lake, TOPICS, VIEWS, build=[0, 1], tasks=2, count_dead_letters=count, report=lambda _: None)
    for task in range(2):
        with closing(open_state(task_file(folder, task), task=task, tasks=2)) as state:
            assert outcomes(state) == before[task]
    assert before[0] == {
        Outcome.COUNTED: 1,
        Outcome.DEAD_LETTERED: 1,
        Outcome.LATE: 1,
        Outcome.DUPLICATE: 2,
    }
    assert asked == [{("transactions", 0): 5}, {("transactions", 1): 1}]


def test_generated_history_is_state_but_was_never_consumed(tmp_path: Path):
    events = stream(8, 500)
    for topic in TOPICS:
        mine = [event for of, event in events if of == topic]
        nowhere = [delta_lake.NO_OFFSET] * len(mine)
        delta_lake.append(tmp_path / "lake", topic, delta_lake.to_table(topic, mine, nowhere, nowhere), versions={})
    build(tmp_path / "rebuilt", tmp_path / "lake")
    with closing(open_state(task_file(tmp_path / "rebuilt", 0))) as state:
        assert set(state.next_offsets().values()) == {0}
        assert state.totals() == {}
        assert {view.name for view, _ in state.unpushed()} == {
            view.name for view in VIEWS if not view.name.endswith("_ratings")
        }
        again = next(event for topic, event in reversed(events) if topic.name == "watches")
        new = example("watches", watch_id="new", event_timestamp=again.event_timestamp - timedelta(hours=23))
        old = example("watches", watch_id="old", event_timestamp=again.event_timestamp - timedelta(hours=25))
        watches = [at(event, n, topic="watches") for n, event in enumerate((again, new, old))]
        assert apply(state, watches) == [Outcome.DUPLICATE, Outcome.COUNTED, Outcome.LATE]


def test_history_and_stream_together_give_what_the_file_says(tmp_path: Path):
    events = stream(9, 600)
    history, live = events[:300], events[300:]
    for topic in TOPICS:
        mine = [event for of, event in history if of == topic]
        nowhere = [delta_lake.NO_OFFSET] * len(mine)
        delta_lake.append(tmp_path / "lake", topic, delta_lake.to_table(topic, mine, nowhere, nowhere), versions={})
    arrivals = numbered((topic, topic.key_of(event), event) for topic, event in (*live, *history[-20:]))
    build(tmp_path / "live", tmp_path / "lake")
    with closing(open_state(task_file(tmp_path / "live", 0))) as state:
        verdicts = apply(state, arrivals)
    assert verdicts[-20:] == [Outcome.DUPLICATE] * 20
    to_lake(tmp_path / "lake", arrivals, verdicts)
    build(tmp_path / "rebuilt", tmp_path / "lake")
    assert_equal(snapshot(task_file(tmp_path / "live", 0)), snapshot(task_file(tmp_path / "rebuilt", 0)))


def test_entities_silent_for_longer_than_the_horizon_keep_their_last_state(tmp_path: Path):
    days = (0, 1, 30, 39, 45, 80, 81)
    messages = [
        event
        for n, day in enumerate(days)
        for event in (
            paid(f"x{n}", NOW - timedelta(days=100 - day), customer_id=f"c{n % 3}", terminal_id=f"t{n % 2}"),
            example("watches", watch_id=f"w{n}", event_timestamp=NOW - timedelta(days=100 - day, hours=n)),
            example("ratings", rating_id=f"r{n}", event_timestamp=NOW - timedelta(days=1_000 - 10 * day)),
        )
    ]
    topic_of = {topic.record: topic for topic in TOPICS}
    arrivals = numbered((topic_of[type(event)], "", event) for event in messages)
    lived, rebuilt = lived_and_rebuilt(tmp_path, arrivals)
    assert_equal(lived, rebuilt)
    assert {"c0", "c1", "c2"} <= {key for _, key, *_ in rebuilt.states}


def test_ids_beyond_the_horizon_come_again_and_are_two_events(tmp_path: Path):
    beyond = DEDUPLICATION_HORIZON + timedelta(microseconds=1)
    moments = [NOW, NOW + beyond, NOW + 2 * beyond]
    arrivals = [at(paid(f"x{n % 2}", moment), n) for n, moment in enumerate(moments)]
    lived, rebuilt = lived_and_rebuilt(tmp_path, arrivals)
    assert_equal(lived, rebuilt)
    assert rebuilt.totals == {("transactions", Outcome.COUNTED): 3}
    with closing(open_state(task_file(tmp_path / "rebuilt", 0))) as state:
        assert apply(state, [at(paid("x0", moments[2]), 3)]) == [Outcome.DUPLICATE]


def test_an_id_at_the_very_end_of_the_horizon_is_still_known(tmp_path: Path):
    arrivals = [at(paid("x0"), 0), at(paid("x1", NOW + DEDUPLICATION_HORIZON), 1)]
    lived, rebuilt = lived_and_rebuilt(tmp_path, arrivals)
    assert_equal(lived, rebuilt)
    with closing(open_state(task_file(tmp_path / "rebuilt", 0))) as state:
        assert apply(state, [at(paid("x0"), 2)]) == [Outcome.DUPLICATE]


@pytest.mark.parametrize("short", [0, 1])
def test_a_state_ends_where_no_request_can_look_any_more(short: int, tmp_path: Path):
    first = paid("x0", NOW, customer_id="c0", terminal_id="t0")
    arrivals = [at(first, 0)]
    # A day more than the widest window, of customers and of terminals.
    for number, (days, who) in enumerate(((31, {"customer_id": "c0"}), (38, {"terminal_id": "t0"})), 1):
        arrivals.append(at(paid(f"x{number}", NOW + timedelta(days=days, microseconds=-short), **who), number))
    lived, rebuilt = lived_and_rebuilt(tmp_path, arrivals)
    assert_equal(lived, rebuilt)
    rows = {(view, key): len(state) // 24 for view, key, _, state in rebuilt.states}
    assert rows["customer_activity", "c0"] == rows["terminal_risk", "t0"] == 1 + short


@pytest.mark.parametrize("amounts", [(1.0, 0.1, 0.0, -0.0), (3.3, 3.3, 3.3, 3.3)])
def test_ties_have_one_order_of_their_bytes(amounts: tuple[float, ...], tmp_path: Path):
    found = set()
    for number, order in enumerate(((0, 1, 2, 3), (3, 1, 0, 2))):
        arrivals = [at(paid(f"x{n}", amount=amounts[n]), offset) for offset, n in enumerate(order)]
        lived, rebuilt = lived_and_rebuilt(tmp_path / str(number), arrivals)
        assert_equal(lived, rebuilt)
        found.add(digest([lived]))
    assert len(found) == 1


def test_labels_that_arrive_out_of_order_are_found_again(tmp_path: Path):
    rng = np.random.default_rng(4)
    labels = []
    for n in range(120):
        known = NOW - timedelta(hours=float(rng.uniform(0, 20)))
        paid_at = known - timedelta(days=float(rng.uniform(0, 9)))
        labels.append(example("chargebacks", chargeback_id=f"b{n}", event_timestamp=paid_at, created_timestamp=known))
    arrivals = [at(label, n, topic="chargebacks") for n, label in enumerate(labels)]
    lived, rebuilt = lived_and_rebuilt(tmp_path, arrivals)
    assert_equal(lived, rebuilt)
    rows = sum(label.created_timestamp - label.event_timestamp <= timedelta(days=7) for label in labels)
    ((_, _, _, state),) = rebuilt.states
    assert len(rows_of(state)) == 8 * 3 * rows
    assert rows < len(labels)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_disputes_that_are_taken_back_weeks_later_are_found_again(tmp_path: Path, seed: int):
    rng = np.random.default_rng(seed)
    start = NOW - timedelta(days=120)
    happened: list[tuple[str, Event]] = []
    for n in range(300):
        moment = start + timedelta(hours=float(rng.uniform(0, 100 * 24)))
        fields = {"transaction_id": f"x{n}", "terminal_id": f"t{rng.integers(4)}", "event_timestamp": moment}
        # Terminal 3 is quiet after its first weeks: its disputes go on.
        if fields["terminal_id"] != "t3" or moment < start + timedelta(days=20):
            happened.append(("transactions", example("transactions", **fields)))
        for report in range(int(rng.choice(3, p=[0.4, 0.4, 0.2]))):
            known = moment + timedelta(days=float(rng.uniform(0, 8)))
            dispute = {**fields, "chargeback_id": f"b{report}-{n}", "created_timestamp": known}
            happened.append(("chargebacks", example("chargebacks", **dispute)))
            if rng.random() < 0.5:
                back = min(moment + timedelta(days=float(rng.uniform(0, 70))), NOW)
                dispute |= {"created_timestamp": max(back, moment)}
                happened.append(("chargeback-reversals", example("chargeback-reversals", **dispute)))
    happened.sort(key=lambda pair: getattr(pair[1], "created_timestamp", pair[1].event_timestamp))
    arrivals = numbered((topic_named(name), "any", event) for name, event in happened)
    lived, rebuilt = lived_and_rebuilt(tmp_path, arrivals)
    assert_equal(lived, rebuilt)
    risks = {key: state for view, key, _, state in lived.states if view == "terminal_risk"}
    assert len(risks) == 4
    assert sum(memory_in(state) != b"" for state in risks.values()) >= 3
    # A topic at a time, as a replay reads them, and in polls of seven.
    by_topic = sorted(arrivals, key=lambda each: each.topic.name)
    for number, order in enumerate((by_topic, by_topic[::-1])):
        path = new_file(tmp_path / f"again-{number}")
        with closing(open_state(path)) as state:
            for topic in dict.fromkeys(each.topic.name for each in order):
                mine = [each for each in arrivals if each.topic.name == topic]
                for first in range(0, len(mine), 7):
                    apply(state, mine[first : first + 7])
        assert snapshot(path).states == lived.states


def test_a_rebuild_that_fails_leaves_the_old_file_alone(tmp_path: Path):
    path = new_file(tmp_path)
    with closing(open_state(path)) as state:
        apply(state, arrivals_of(9, 50))
    before = stored(path)

    def fail(_: str) -> None:
        raise KeyboardInterrupt

    lake = tmp_path / "lake"
    with pytest.raises(KeyboardInterrupt):
        rebuild_tasks(tmp_path, lake, TOPICS, VIEWS, build=[0], tasks=1, count_dead_letters=lambda _: {}, report=fail)
    assert stored(path) == before
    build(tmp_path, lake)
    assert stored(path) == {}


def test_only_the_files_that_are_asked_for_are_replaced(tmp_path: Path):
    paths = [new_file(tmp_path, task=task, tasks=2) for task in range(2)]
    with closing(open_state(paths[0], tasks=2)) as state:
        apply(state, [at(paid("x1"), 0)])
    kept = stored(paths[0])
    build(tmp_path, tmp_path / "lake", tasks=2, only=[1])
    assert stored(paths[0]) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task-0.sqlite", "task-1.sqlite"]


def test_the_report_has_a_line_for_each_view(tmp_path: Path):
    lines: list[str] = []
    nobody = lambda _: {}  # noqa: E731 - there are no dead letters
    rebuild_tasks(
        tmp_path, tmp_path / "lake", TOPICS, VIEWS, build=[0], tasks=1, count_dead_letters=nobody, report=lines.append
    )
    assert Counter(line.split(":")[0] for line in lines)[VIEWS[0].name] == 1
    assert len(lines) == 1 + len(VIEWS)


def test_rows_of_a_partition_are_judged_in_the_order_of_their_offsets(tmp_path: Path):
    rng = np.random.default_rng(0)
    topic = topic_named("transactions")
    arrivals = [
        Arrival(topic, 0, offset, paid(f"x{offset}", NOW - timedelta(hours=float(rng.uniform(0, 60)))))
        for offset in range(200)
    ]
    lived, rebuilt = lived_and_rebuilt(tmp_path, arrivals)
    assert_equal(lived, rebuilt)
    assert rebuilt.totals["transactions", Outcome.LATE] > 20
    with (
        closing(sqlite3.connect(task_file(tmp_path / "live", 0))) as one,
        closing(sqlite3.connect(task_file(tmp_path / "rebuilt", 0))) as other,
    ):
        query = "SELECT * FROM seen ORDER BY offset"
        assert one.execute(query).fetchall() == other.execute(query).fetchall()
