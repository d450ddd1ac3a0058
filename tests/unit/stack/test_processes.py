from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from reference_system.settings import Settings
from reference_system.stack.environment import child_environment
from reference_system.stack.processes import marked_processes, resident_mb, stop_leftovers, stop_processes

# Says when it is ready to be signalled; the second argument makes it deaf to SIGTERM.
PROGRAM = (
    "import signal, sys, time\n"
    "if len(sys.argv) > 1: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True)\n"
    "time.sleep(120)"
)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def start(
    processes: list[subprocess.Popen[str]], settings: Settings, service: str, *arguments: str
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=child_environment(settings, service=service),
        stdout=subprocess.PIPE,
        text=True,
    )
    processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_only_processes_of_this_state_directory_are_found(
    settings: Settings, started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    ours = start(started, settings, "kafka")
    start(started, settings.model_copy(update={"state_dir": tmp_path / "other"}), "kafka")

    assert [(found.pid, found.service) for found in marked_processes(settings.state_dir)] == [(ours.pid, "kafka")]


def test_a_process_that_does_not_listen_is_killed(settings: Settings, started: list[subprocess.Popen[str]]) -> None:
    deaf = start(started, settings, "world", "deaf")

    stop_processes(marked_processes(settings.state_dir), seconds=0.5)

    assert deaf.poll() is not None
    assert marked_processes(settings.state_dir) == []


def test_a_restarted_service_stops_what_its_former_self_left(
    settings: Settings, started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = start(started, settings, "serving")
    other = start(started, settings, "kafka")
    monkeypatch.setenv("WORKBOOK_SERVICE", "serving")

    assert [found.pid for found in stop_leftovers(settings, "serving")] == [leftover.pid]

    assert leftover.poll() is not None
    assert other.poll() is None


def test_a_process_started_by_hand_stops_nothing(
    settings: Settings, started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised = start(started, settings, "serving")
    monkeypatch.delenv("WORKBOOK_SERVICE", raising=False)

    assert stop_leftovers(settings, "serving") == []
    assert supervised.poll() is None


def test_memory_counts_the_children(settings: Settings, started: list[subprocess.Popen[str]]) -> None:
    alone = psutil.Process().memory_info().rss / 1024**2
    child = start(started, settings, "kafka")

    together = resident_mb(os.getpid())

    assert together is not None
    assert together > alone
    child.kill()
    child.wait()
    assert resident_mb(child.pid) is None
