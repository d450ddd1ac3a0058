"""Short forms of the drills, against a real broker; and a consumer that they must catch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic, sleep

import psutil
import pytest
from local_broker import small_settings
from typer.testing import CliRunner

from reference_system.cli import app
from reference_system.paths import StatePaths
from reference_system.proofs.drills import bad_input as drill_input
from reference_system.proofs.drills import broker as drill_broker
from reference_system.proofs.drills import consumer_kills as drill_kills
from reference_system.proofs.drills import state_loss as drill_state
from reference_system.proofs.drills.report import DrillReport
from reference_system.proofs.drills.stage import DrillStage, open_stage
from reference_system.proofs.scratch_system import remove_leftovers
from reference_system.stack.environment import STATE_MARK


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DrillStage]:
    """One stage for all drills: each adds its traffic and its faults, each report covers all before it."""
    settings = small_settings(tmp_path_factory.mktemp("drills") / "state", 0)
    with open_stage(settings, "suite", seed=11, progress=lambda *_: None) as opened:
        yield opened


def assert_passed(report: DrillReport) -> None:
    assert report.problems == []
    counts = report.counts
    assert (counts.lost, counts.double) == (0, 0)
    outcomes = counts.counted + counts.late + counts.duplicate + counts.dead_lettered
    assert outcomes == counts.acknowledged > 0


def test_killed_consumers_lose_nothing_and_count_nothing_twice(stage: DrillStage):
    report = drill_kills.consumer_kill(stage, times=6)

    assert_passed(report)
    assert sum(report.faults.values()) >= 6


def test_a_zombie_is_refused_by_its_epoch(stage: DrillStage):
    report = drill_kills.zombie(stage, times=2)

    assert_passed(report)
    assert sum(report.faults.values()) == 2


def test_duplicates_are_counted_once(stage: DrillStage):
    before = stage.book.sent()
    report = drill_input.duplicates(stage, events=150)

    assert_passed(report)
    assert report.counts.duplicate >= report.faults["copies"] == stage.book.sent() - before - 150 > 0


def test_events_out_of_order_are_late_only_beyond_a_day(stage: DrillStage):
    report = drill_input.out_of_order(stage, events=400)

    assert_passed(report)
    assert report.faults["events behind a newer one"] > report.faults["late events"] > 0


def test_poison_ends_on_the_dead_letter_topic_with_equal_bytes(stage: DrillStage):
    report = drill_input.poison(stage, events=1)

    assert_passed(report)
    assert report.counts.dead_lettered >= report.faults["malformed messages"] > 50


def test_lost_state_comes_back_from_lake_and_topics_to_the_byte(stage: DrillStage):
    assert_passed(drill_state.state_loss(stage, times=2))


def test_a_killed_broker_loses_nothing(stage: DrillStage):
    assert_passed(drill_broker.broker_kill(stage, times=1))


def test_a_paused_broker_loses_nothing(stage: DrillStage):
    assert_passed(drill_broker.broker_pause(stage, times=1))


def test_the_naive_consumer_is_caught(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path / "state"))

    result = CliRunner().invoke(app, ["drill", "consumer-kill", "--times", "3", "--seed", "3", "--mutant", "naive"])

    assert result.exit_code == 1, result.output
    assert "events are counted twice: " in result.output
    assert "FAILED" in result.output
    assert not list(StatePaths(tmp_path / "state").scratch.iterdir())


def test_nothing_is_left_of_a_drill_that_is_ended_and_the_next_removes_what_a_kill_left(tmp_path):
    state_dir = tmp_path / "state"
    scratch = StatePaths(state_dir).scratch
    killed = _started_scratch_system(state_dir)
    killed.kill()
    killed.wait()
    assert list(scratch.iterdir())
    ended = _started_drill(state_dir)
    assert len(list(scratch.iterdir())) == 1

    ended.terminate()

    assert ended.wait(timeout=30) == 128 + signal.SIGTERM
    assert not list(scratch.iterdir())
    assert _processes_of(state_dir) == []
    assert remove_leftovers(scratch) == []


def _started_scratch_system(state_dir) -> subprocess.Popen[bytes]:
    """What a drill stands on, without the seconds that its consumers take to start."""
    program = """
from reference_system.proofs.scratch_system import scratch_system
from reference_system.settings import load_settings
with scratch_system(load_settings(), "drill"):
    print("ready", flush=True)
    input()
"""
    environment = {**os.environ, "WORKBOOK_STATE_DIR": str(state_dir)}
    command = [sys.executable, "-c", program]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def _started_drill(state_dir) -> subprocess.Popen[bytes]:
    """A drill whose broker runs."""
    command = [sys.executable, "-m", "reference_system.cli", "drill", "zombie", "--times", "1000"]
    environment = {**os.environ, "WORKBOOK_STATE_DIR": str(state_dir)}
    before = set(state_dir.glob("scratch/*"))
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = monotonic() + 60
    while not {log.parent for log in state_dir.glob("scratch/*/consumers.log")} - before:
        assert process.poll() is None
        assert monotonic() < deadline
        sleep(0.05)
    return process


def _processes_of(state_dir) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(STATE_MARK, "").startswith(str(state_dir)):
                found.append(process)
    # A fork server notices within a moment that its program has ended.
    return psutil.wait_procs(found, timeout=10)[1]
