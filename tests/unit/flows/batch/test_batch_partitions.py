"""A batch that grows partition by partition: killed anywhere, it ends as if nothing had happened."""

from __future__ import annotations

import signal

import pyarrow.parquet as pq
import pytest
from batch_runs import NAMES, POINTS, ROWS, at, killed_at, part, run, source

from reference_system.errors import StateError
from reference_system.flows.batch.partitions import draft_folder, open_draft, source_of


class Interrupted(Exception):  # noqa: N818 - what happens, and no error
    """What stands for a failure of a partition."""


def interrupt_at(passage):
    def interrupt():
        raise Interrupted

    return at(passage, interrupt)


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
