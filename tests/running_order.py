"""In which order tests run, and who runs which: a plugin of the tests' conftest.

In: the commit (or `--randomly-seed=N`) and the number of workers (`-n`). Out: files, and tests within them, shuffled;
with workers, the longest part first.
Invariant: one commit is always tested in one order and with one seed, the next commit in another one; after the run no
process is left that a test started.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path
from zlib import crc32

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

TESTS = Path(__file__).parent
_OUTSIDE_GIT = 1
_QUICK_FIRST = ("unit", "docs", "integration", "e2e")
# The live system is the longest piece, then whatever waits for a broker; the many small files fill the end evenly.
_LONG_FIRST = ("e2e", "integration", "docs", "unit")
_STOP_SECONDS = 15.0
_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def seed_of_the_commit() -> int:
    """A number that changes with the commit and only with it."""
    git = ["git", "-C", str(TESTS), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return _OUTSIDE_GIT
    return crc32(commit.strip().encode())


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """One seed for the order, for numpy and `random`, and for hypothesis; workers get the one of the whole run."""
    seed = config.getoption("randomly_seed", "last")
    if seed == "default":
        seed = config.option.randomly_seed = seed_of_the_commit()
    seed = getattr(config, "workerinput", {}).get("randomly_seed", seed)
    if config.getoption("hypothesis_seed") is None and seed != "last":
        config.option.hypothesis_seed = str(seed)
    if not is_worker(config):
        # Ended from outside, a run clears up as it does after Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, so that nobody can forget to, and order the folders; within them it stays shuffled.

    The end-to-end tests alone keep the order in which they are written: they tell one story of one live system, which
    takes a minute to come up and in which every step changes what the next one finds.
    """
    folders = _LONG_FIRST if is_worker(config) else _QUICK_FIRST

    def place(item: pytest.Item) -> tuple[int, str, int]:
        folder = folder_of(item)
        story = (item.location[0], item.location[1] or 0) if folder == "e2e" else ("", 0)
        return (folders.index(folder) if folder in folders else 0, *story)

    for item in items:
        if folder_of(item) in ("integration", "e2e"):
            item.add_marker(folder_of(item))
    items.sort(key=place)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """A worker takes file after file, so that what a file sets up is set up once; one takes all end-to-end tests."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist ships no types
    """Files, in the order of the collection; the end-to-end tests are one piece."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "e2e" if "tests/e2e/" in file else file


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None]:
    """After the workers: end what tests left running (a worker is killed ten seconds after Ctrl-C), and say so."""
    yield
    if is_worker(session.config):
        return
    factory = getattr(session.config, "_tmp_path_factory", None)  # pytest has no public name for it
    left = started_by_tests(factory.getbasetemp()) if factory else []
    _, running = psutil.wait_procs([process for process, _ in left], timeout=_STOP_SECONDS)  # some are just ending
    left = [(process, what) for process, what in left if process in running]
    for process, what in left:
        print(f"\nleft running by a test, ended now: pid {process.pid} {what}")  # noqa: T201 - after pytest's own report
    end([process for process, _ in left])
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def started_by_tests(folder: Path) -> list[tuple[psutil.Process, str]]:
    """Processes to which this run's temporary folder was given, with their command and test."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            given = [*environment.values(), *process.cmdline()]
            command = " ".join(process.cmdline())[:120]
        except (*_GONE, OSError):
            continue
        if process.pid != os.getpid() and any(str(folder) in value for value in given):
            found.append((process, f"{command} ({environment.get('PYTEST_CURRENT_TEST', 'test unknown')})"))
    return found


def end(processes: list[psutil.Process]) -> None:
    """Ask, then insist."""
    for signal_of in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            try:
                signal_of(process)
            except _GONE:
                continue
        _, processes = psutil.wait_procs(processes, timeout=_STOP_SECONDS)


def is_worker(config: pytest.Config) -> bool:
    """Whether this process runs tests for another one, which collects what they say."""
    return hasattr(config, "workerinput")


def folder_of(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0] if item.path.is_relative_to(TESTS) else ""
