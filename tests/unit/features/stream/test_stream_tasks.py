"""The same stream through 1, 2, 4 and 8 tasks: the same states to the byte, whatever happens on the way."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_events import NOW, example
from stream_harness import MICRO, States, Tasks, numbered, paid, rough_messages, stored

from reference_system.features.stream.deduplication import LATE_AFTER, Outcome
from reference_system.features.stream.kafka_keys import partition_of
from reference_system.features.stream.snapshot import task_file
from reference_system.use_cases import VIEWS, topic_named

SEEDS = (1, 2, 3)
COUNT = 500


@cache
def single(seed: int) -> tuple[States, Counter[tuple[str, str]]]:
    """What one task says, which owns everything: nothing is ever forwarded."""
    with TemporaryDirectory() as folder, closing(tasks_of(Path(folder) / "tasks", seed, 1)) as one:
        one.drain()
        assert not any(one.log.values())
        return one.union(), one.totals()


def tasks_of(folder: Path, seed: int, tasks: int) -> Tasks:
    return Tasks(folder, numbered(rough_messages(seed, COUNT), tasks=tasks), tasks)


def assert_like_single(several: Tasks, seed: int) -> None:
    states, totals = single(seed)
    assert several.totals() == totals
    assert several.union() == states
    assert several.online() == states, "what was pushed on the way is older"


def test_the_streams_have_something_of_everything():
    for seed in SEEDS:
        states, totals = single(seed)
        assert {view for view, _ in states} == {view.name for view in VIEWS}
        counted = Counter(outcome for (_, outcome), count in totals.items() for _ in range(count))
        assert all(counted[outcome] > 5 for outcome in Outcome), counted


@pytest.mark.parametrize("tasks", [2, 4, 8])
@pytest.mark.parametrize("seed", SEEDS)
def test_any_number_of_tasks_gives_the_states_of_one(seed: int, tasks: int, tmp_path: Path):
    with closing(tasks_of(tmp_path / "tasks", seed, tasks)) as several:
        several.drain()
        assert any(several.log.values())
        assert_like_single(several, seed)


ACTIONS = ["poll", "poll", "poll", "again", "send", "send", "send unacknowledged", "push", "crash", "commit"]


@settings(max_examples=20, deadline=None)
@given(seed=st.sampled_from(SEEDS), tasks=st.sampled_from([2, 4, 8]), chance=st.integers(0, 2**32))
def test_interleavings_crashes_and_records_sent_again_change_nothing(seed: int, tasks: int, chance: int):
    rng = np.random.default_rng(chance)
    with TemporaryDirectory() as folder, closing(tasks_of(Path(folder) / "tasks", seed, tasks)) as several:
        for _ in range(40):
            disturb(several, int(rng.integers(tasks)), str(rng.choice(ACTIONS)), int(rng.integers(1, 40)))
        several.drain()
        assert_like_single(several, seed)


def disturb(several: Tasks, task: int, action: str, count: int) -> None:
    match action:
        case "poll":
            several.poll(task, count)
        case "again":
            several.poll(task, count, again=count)
        case "send":
            several.send(task, count)
        case "send unacknowledged":
            several.send(task, count, acknowledged=False)
        case "push":
            several.push(task)
        case "crash":
            several.crash(task)
        case "commit":
            several.commit(task)


@settings(max_examples=4, deadline=None)
@given(seed=st.sampled_from(SEEDS), chance=st.integers(0, 2**32), lost=st.sets(st.integers(0, 3), min_size=1))
def test_tasks_that_are_built_from_the_lake_join_the_others_where_they_were(seed: int, chance: int, lost: set[int]):
    rng = np.random.default_rng(chance)
    with TemporaryDirectory() as folder, closing(tasks_of(Path(folder) / "tasks", seed, 4)) as several:
        for life in range(2):
            for _ in range(30):
                disturb(several, int(rng.integers(4)), str(rng.choice(ACTIONS)), int(rng.integers(1, 30)))
            if not life:
                several.lose(Path(folder) / "lake", *lost)
        several.drain()
        assert_like_single(several, seed)


def test_a_lost_task_gives_the_digest_of_an_undisturbed_run(tmp_path: Path):
    with closing(tasks_of(tmp_path / "tasks", 1, 4)) as four:
        four.drain()
        before = four.digest()
        for task in range(4):
            four.commit(task)
        four.drain()
        assert four.digest() == before
        four.lose(tmp_path / "lake", 1, 3)
        assert four.digest() == before, "positions and totals, too"
        four.drain()
        assert four.digest() == before


def test_a_crash_keeps_the_outbox(tmp_path: Path):
    with closing(tasks_of(tmp_path / "tasks", 1, 2)) as several:
        several.poll(0, 100)
        waiting = several.states[0].outbox()
        assert waiting
        several.crash(0)
        assert several.states[0].outbox() == waiting


def test_what_was_sent_leaves_the_file_with_the_next_poll(tmp_path: Path):
    with closing(tasks_of(tmp_path / "tasks", 1, 2)) as several:
        several.poll(0, 10)
        (number, *_), *_ = several.states[0].outbox()[-1:]
        several.send(0, 10)
        assert several.states[0].outbox() == []
        several.poll(0, 10)
        several.crash(0)
        assert [each[0] for each in several.states[0].outbox()] == [number + 1]


def test_rows_go_to_the_task_that_owns_their_entity(tmp_path: Path):
    payments = [paid(f"x{n}", NOW + n * MICRO, customer_id=f"c{n}", terminal_id=f"t{n}") for n in range(50)]
    topic = topic_named("transactions")
    with closing(
        Tasks(tmp_path / "tasks", numbered([(topic, each.customer_id, each) for each in payments], tasks=4), 4)
    ) as four:
        four.drain()
        owners = {key: task for task in four.states for _, key in stored(task_file(four.folder, task))}
    assert owners == {name: partition_of(name, 4) for n in range(50) for name in (f"c{n}", f"t{n}")}


def test_a_late_event_is_forwarded_to_nobody(tmp_path: Path):
    topic = topic_named("transactions")
    late = example("transactions", transaction_id="late", event_timestamp=NOW - LATE_AFTER - MICRO, terminal_id="t7")
    messages = [(topic, "c000001", each) for each in (paid("x1", terminal_id="t7"), late)]
    away = next(n for n in range(2) if n != partition_of("t7", 2))
    with closing(Tasks(tmp_path / "tasks", numbered(messages, tasks=2), 2)) as two:
        two.drain()
        if partition_of("c000001", 2) == away:
            assert len(two.log[1 - away]) == 1
        assert len(two.union()["terminal_risk", "t7"][1]) == 8 * 3, "one row of a time and two values"
