from __future__ import annotations

import io
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import psutil
import pytest
from rich.console import Console

from reference_system.commands.system.up import _jobs
from reference_system.errors import ServiceError
from reference_system.settings import Settings
from reference_system.stack.bring_up import jobs as jobs_module
from reference_system.stack.bring_up.job import Job, Work
from reference_system.stack.bring_up.jobs import BringUpStep, Call, ServiceStart, run_jobs, step_log
from reference_system.stack.bring_up.progress import Board
from reference_system.stack.services import service_named
from reference_system.stack.state_dir import is_done, prepare_state_dir
from reference_system.stack.supervisor.client import Supervised, Supervisor


@dataclass
class Recorded:
    """Work that is done after some polls, and says so in a shared list."""

    name: str
    said: list[str]
    polls: int = 0
    error: Exception | None = None
    cancelled: list[str] = field(default_factory=list)

    def start(self) -> None:
        self.said.append(f"+{self.name}")

    def is_finished(self) -> bool:
        if self.error is not None:
            raise self.error
        self.polls -= 1
        if self.polls < 0:
            self.said.append(f"-{self.name}")
        return self.polls < 0

    def cancel(self) -> None:
        self.cancelled.append(self.name)


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def board(output: io.StringIO) -> Board:
    return Board(Console(file=output, force_terminal=False, width=200))


def job(work: Work, name: str, *needs: str, log: Path | None = None) -> Job:
    return Job(name=name, title=f"the {name}", work=work, needs=needs, log=log)


def test_each_job_starts_as_soon_as_its_needs_are_done(board: Board) -> None:
    said: list[str] = []
    jobs = [
        job(Recorded("bootstrap", said), "bootstrap", "history", "kafka"),
        job(Recorded("history", said, polls=2), "history"),
        job(Recorded("kafka", said), "kafka"),
        job(Recorded("topics", said), "topics", "kafka"),
    ]

    run_jobs(jobs, board)

    assert said[:2] == ["+history", "+kafka"]
    assert said.index("+topics") < said.index("-history") < said.index("+bootstrap")
    assert said[-1] == "-bootstrap"


def test_the_first_failure_ends_it_shows_the_log_and_cancels_the_rest(
    board: Board, output: io.StringIO, tmp_path: Path
) -> None:
    log = tmp_path / "history.log"
    log.write_text("all well\nno space left\n")
    other = Recorded("kafka", [], polls=1_000)
    failing = Recorded("history", [], error=ServiceError("the step history ended with exit code 1"))

    with pytest.raises(ServiceError, match="exit code 1"):
        run_jobs(
            [job(other, "kafka"), job(failing, "history", log=log), job(Recorded("x", []), "x", "history")], board
        )

    assert other.cancelled == ["kafka"]
    assert "✗ the history" in output.getvalue()
    assert "history │ no space left" in output.getvalue()
    assert "the x" not in output.getvalue()


@pytest.mark.parametrize(
    ("needs", "fact"),
    [
        ({"serving": ["bootstrap"]}, "the job serving needs bootstrap, which is no job"),
        ({"history": [], "topics": ["kafka"], "kafka": ["jars"]}, "the job kafka needs jars, which is no job"),
        ({"history": ["history"]}, "jobs need one another in a circle: history, history"),
        (
            {"jars": [], "a": ["b", "jars"], "b": ["c"], "c": ["a"]},
            "jobs need one another in a circle: [abc], [abc], ",
        ),
    ],
)
def test_a_need_that_nobody_can_meet_is_named_before_anything_starts(
    board: Board, needs: dict[str, list[str]], fact: str
) -> None:
    said: list[str] = []
    jobs = [job(Recorded(name, said), name, *needed) for name, needed in needs.items()]

    with pytest.raises(ValueError, match=fact):
        run_jobs(jobs, board)

    assert said == []


def test_every_need_of_a_bring_up_is_one_of_its_jobs(settings: Settings, board: Board) -> None:
    assert jobs_module._ordered(_jobs(settings, cast("Supervisor", None), board)).is_active()


def test_two_jobs_of_one_name_are_refused(board: Board) -> None:
    said: list[str] = []

    with pytest.raises(ValueError, match="two jobs are called history"):
        run_jobs([job(Recorded("one", said), "history"), job(Recorded("other", said), "history")], board)

    assert said == []


def test_what_a_call_raises_is_raised_where_it_is_watched(board: Board) -> None:
    def fail() -> None:
        raise ServiceError("no broker")

    with pytest.raises(ServiceError, match="no broker"):
        run_jobs([job(Call(fail), "topics")], board)


def as_step(settings: Settings, monkeypatch: pytest.MonkeyPatch, program: str) -> BringUpStep:
    """The step `history` as this program instead of the real one."""
    real = jobs_module.subprocess.Popen
    prepare_state_dir(settings)
    step_log(settings, "history").parent.mkdir(exist_ok=True)
    monkeypatch.setattr(
        jobs_module.subprocess,
        "Popen",
        lambda _, **options: real([sys.executable, "-c", program], **options),
    )
    return BringUpStep(settings, "history")


def test_a_complete_step_is_remembered_and_not_done_again(
    settings: Settings, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = as_step(settings, monkeypatch, "print('ninety days')")
    run_jobs([job(step, "history")], board)
    assert is_done(settings, "history")
    assert step_log(settings, "history").read_text() == "ninety days\n"

    run_jobs([job(as_step(settings, monkeypatch, "raise SystemExit(1)"), "history")], board)


def test_a_failed_step_is_not_remembered(settings: Settings, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    step = as_step(settings, monkeypatch, "raise SystemExit(7)")

    with pytest.raises(ServiceError, match="the step history ended with exit code 7") as caught:
        run_jobs([job(step, "history")], board)

    assert caught.value.next_command == "workbook logs history"
    assert not is_done(settings, "history")


def test_a_step_that_refuses_is_quoted_with_its_own_next_command(
    settings: Settings, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = as_step(settings, monkeypatch, "raise SystemExit('the disk is full; run `df -h`')")

    with pytest.raises(ServiceError, match="history cannot start: the disk is full") as caught:
        run_jobs([job(step, "history")], board)

    assert caught.value.next_command == "df -h"


@dataclass
class AlwaysStarting:
    """A supervisor whose process ends and is started anew, as often as it is asked."""

    started: int = 0

    def process(self, name: str) -> Supervised:
        self.started += 1
        return Supervised(name=name, state="STARTING", pid=1, started=self.started, now=self.started, detail="")


def test_a_service_that_refuses_again_and_again_is_quoted(
    settings: Settings, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_POLL_SECONDS", 0.0)
    prepare_state_dir(settings)
    log = step_log(settings, "world")
    log.parent.mkdir(exist_ok=True)
    log.write_text("no checkpoint; run `rm x`\nno checkpoint; run `make clean`\nthe world goes on\n")
    start = ServiceStart(settings, cast("Supervisor", AlwaysStarting()), service_named(settings, "world"))

    with pytest.raises(ServiceError, match=r"world cannot start: no checkpoint$") as caught:
        run_jobs([job(start, "world")], board)

    assert caught.value.next_command == "make clean"


def test_an_interrupted_step_leaves_no_process_and_is_not_remembered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawn = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])"
    step = as_step(settings, monkeypatch, f"{spawn}; print('up', flush=True); time.sleep(99)")
    step.start()
    while "up" not in step_log(settings, "history").read_text():
        time.sleep(0.02)
    assert step._process is not None
    children = psutil.Process(step._process.pid).children()

    step.cancel()

    assert step._process.poll() is not None
    psutil.wait_procs(children, timeout=5)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert not is_done(settings, "history")
