"""Scratch systems: where they are, and what becomes of those whose owner was killed."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest
from local_broker import small_settings

from reference_system.errors import SetupError
from reference_system.paths import StatePaths
from reference_system.proofs import broker_process
from reference_system.proofs.broker_process import free_port_offset
from reference_system.proofs.scratch_system import remove_leftovers, scratch_folder, scratch_settings
from reference_system.settings import PORT_NAMES
from reference_system.stack.environment import SERVICE_MARK, STATE_MARK
from reference_system.stack.locks import one_at_a_time
from reference_system.stack.state_dir import own_names


@pytest.fixture
def scratch(settings):
    folder = StatePaths(settings.state_dir).scratch
    folder.mkdir(parents=True)
    return folder


def test_a_scratch_system_shares_settings_but_neither_folder_nor_ports(tmp_path):
    settings = small_settings(tmp_path, 0)

    ours = scratch_settings(settings, tmp_path / "scratch" / "one")

    assert ours.state_dir == tmp_path / "scratch" / "one"
    assert {ours.port(name) for name in PORT_NAMES}.isdisjoint(settings.port(name) for name in PORT_NAMES)
    assert (ours.kafka_partitions, ours.seed) == (settings.kafka_partitions, settings.seed)


def test_bringing_the_system_up_accepts_what_proofs_leave_in_its_folder():
    assert {"scratch", "bench"} <= own_names()


def test_a_system_whose_owner_was_killed_is_removed_with_its_processes(scratch):
    root = scratch / "left-1"
    (root / "kafka").mkdir(parents=True)
    (root / "kafka" / "data").touch()
    marks = {SERVICE_MARK: "kafka", STATE_MARK: str(root)}
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=marks)
    try:
        assert remove_leftovers(scratch) == ["left-1"]
        assert not psutil.pid_exists(left.pid)
    finally:
        left.kill()
        left.wait()

    assert not root.exists()


def test_a_system_whose_owner_lives_stays(scratch):
    root = scratch / "in-use-1"
    with one_at_a_time(root, "drill"):
        (root / "kafka.log").touch()

        assert remove_leftovers(scratch) == []
        assert (root / "kafka.log").exists()


def test_a_folder_ends_with_its_use_and_the_next_removes_what_a_kill_left(scratch):
    left = scratch / "verify-1"
    left.mkdir()
    (left / "task-0.sqlite").touch()

    with scratch_folder(scratch, "verify") as folder:
        (folder / "task-0.sqlite").touch()
        assert list(scratch.iterdir()) == [folder]

    assert list(scratch.iterdir()) == []


def test_where_nothing_was_ever_made_nothing_is_removed(settings):
    assert remove_leftovers(StatePaths(settings.state_dir).scratch) == []


def test_without_free_ports_there_is_no_scratch_system(settings, monkeypatch):
    monkeypatch.setattr(broker_process, "is_port_free", lambda _: False)

    with pytest.raises(SetupError, match="free ports"):
        free_port_offset(settings)
