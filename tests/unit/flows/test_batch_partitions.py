"""A batch that grows partition by partition: killed anywhere, it ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from multiprocessing import get_context

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reference_system.errors import StateError
from reference_system.flows.batch_partitions import BatchSource, Partitions, draft_folder, open_draft, source_of

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("score", pa.float64())])
NAMES = ("a", "b", "empty", "c")
ROWS = [("a0", 0.0), ("a1", 1.0), ("b0", 0.0), ("b1", 1.0), ("c0", 0.0), ("c1", 1.0)]
POINTS = ["partition made", "partition finished"] * len(NAMES) + ["batch assembled"]


class Interrupted(Exception):  # noqa: N818 - what happens, and no error
    """What stands for a failure of a partition."""


def source(inputs="1"):
    day = datetime(2025, 3, 1, tzinfo=UTC)
    return BatchSource(use_case="fraud", event_timestamp=day, model_version="3", model="m", inputs=inputs)


def part(name):
    count = 0 if name == "empty" else 2
    return pa.table([[f"{name}{i}" for i in range(count)], [float(i) for i in range(count)]], schema=SCHEMA)


def run(target, *, of=None, passed=lambda _: None):
    """One run as the flows do it; what it wrote, and the partitions that it made."""
    made = []

    def make(name):
        made.append(name)
        return part(name)

    of = of or source()
    with open_draft(target, "score-batch fraud") as draft:
        if source_of(target) == of:
            return draft.already_done(), made
        if draft.source != of:
            draft.clear()
            draft.begin(of)
        partitions = Partitions(names=NAMES, schema=SCHEMA, make=make)
        return draft.finish(partitions, passed=passed, tell=lambda _: None), made


def at(passage, interrupt):
    """Interrupt at the n-th point that is passed."""
    passed = []

    def pass_by(point):
        passed.append(point)
        if len(passed) == passage:
            interrupt()

    return pass_by


def interrupt_at(passage):
    def interrupt():
        raise Interrupted

    return at(passage, interrupt)


def killed_at(passage, target):
    """A run in a process of its own that gets SIGKILL there."""
    kill = at(passage, lambda: os.kill(os.getpid(), signal.SIGKILL))
    process = get_context("fork").Process(target=run, args=(target,), kwargs={"passed": kill})
    process.start()
    process.join(30)
    return process.exitcode


@pytest.fixture
def target(tmp_path):
    return tmp_path / "batch" / "2025-03-01.parquet"


@pytest.fixture
def undisturbed(tmp_path):
    """The bytes of a run that nobody interrupted."""
    path = tmp_path / "undisturbed" / "2025-03-01.parquet"
    run(path)
    return path.read_bytes()


def test_the_partitions_are_one_file_in_their_order(target):
    written, made = run(target)
    assert [tuple(row.values()) for row in pq.read_table(target).to_pylist()] == ROWS
    assert (written.outcome, written.rows, written.made_rows) == ("scored", 6, 6)
    assert made == list(NAMES)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("passage", range(1, len(POINTS) + 1))
def test_killed_anywhere_it_is_continued_and_ends_with_the_same_bytes(target, undisturbed, passage):
    assert killed_at(passage, target) == -signal.SIGKILL
    assert not target.exists()
    finished = POINTS[:passage].count("partition finished")
    written, made = run(target)
    assert made == list(NAMES[finished:])
    assert written.outcome == ("continued" if finished else "scored")
    assert written.rows == 6
    assert written.made_rows == sum(part(name).num_rows for name in NAMES[finished:])
    assert target.read_bytes() == undisturbed
    assert not draft_folder(target).exists()


def test_a_second_run_finds_it_done(target, undisturbed):
    run(target)
    written, made = run(target)
    assert (written.outcome, written.rows, written.made_rows, made) == ("already done", 6, 0, [])
    assert target.read_bytes() == undisturbed


def test_other_inputs_make_it_anew_and_the_old_file_stays_until_then(target, undisturbed):
    run(target)
    with pytest.raises(Interrupted):
        run(target, of=source("2"), passed=interrupt_at(len(POINTS)))
    assert target.read_bytes() == undisturbed
    assert run(target, of=source("2"))[0].outcome == "continued"
    assert source_of(target) == source("2")


def test_what_an_interrupted_run_made_of_other_inputs_is_not_taken(target):
    with pytest.raises(Interrupted):
        run(target, of=source("2"), passed=interrupt_at(4))
    written, made = run(target)
    assert (written.outcome, made) == ("scored", list(NAMES))


def test_a_partition_that_was_damaged_meanwhile_is_made_again(target, undisturbed):
    with pytest.raises(Interrupted):
        run(target, passed=interrupt_at(4))
    (draft_folder(target) / "part-a.parquet").write_bytes(b"torn")
    _, made = run(target)
    assert made == ["a", "empty", "c"]
    assert target.read_bytes() == undisturbed


def test_a_record_that_a_power_cut_tore_begins_it_anew(target):
    with pytest.raises(Interrupted):
        run(target, passed=interrupt_at(4))
    (draft_folder(target) / "draft.json").write_bytes(b'{"source":')
    assert run(target)[1] == list(NAMES)


def test_two_runs_of_one_batch_exclude_one_another(target):
    with open_draft(target, "score-batch fraud"), pytest.raises(StateError, match="score-batch fraud"):
        run(target)


def test_a_file_that_is_no_batch_says_nothing_of_a_source(target):
    assert source_of(target) is None
    target.parent.mkdir()
    pq.write_table(part("a"), target)
    assert source_of(target) is None
    target.write_bytes(b"no Parquet")
    assert source_of(target) is None
