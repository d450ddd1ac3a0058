"""Fixtures that tests of several parts share.

A test that asks for `broker` gets a real Apache Kafka, started once for the whole run on a port block of its own.
`settings` points at the same port block, so `settings.kafka_bootstrap` is that broker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from reference_system.clock import FixedClock
from reference_system.settings import LOOPBACK, PORT_NAMES, Settings

NOON = datetime(2025, 3, 3, 12, 0, tzinfo=UTC)

# Port blocks lie above the offsets that people use and below the ports that systems hand out themselves.
BLOCKS_START, BLOCK_SIZE, BLOCKS = 10_000, 16, 600

_topic_numbers = count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """A running broker: where it listens, what it was started with, its process and its log."""

    bootstrap: str
    settings: Settings
    process: subprocess.Popen[bytes]
    log: Path


LaunchBroker = Callable[[Settings], AbstractContextManager[Broker]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder, so that nobody can forget to."""
    tests = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
        if folder in ("integration", "e2e"):
            item.add_marker(folder)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_the_environment() -> Iterator[None]:
    """What the reader's shell sets must not change what the tests test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WORKBOOK_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def port_offset() -> int:
    """An offset whose ports are all free; concurrent test runs begin their search at different blocks."""
    for step in range(BLOCKS):
        offset = BLOCKS_START + (os.getpid() + step) % BLOCKS * BLOCK_SIZE
        if all(_is_free(Settings(_env_file=None, port_offset=offset).port(name)) for name in PORT_NAMES):
            return offset
    pytest.fail("no free block of ports on this machine")


@pytest.fixture
def settings(tmp_path: Path, port_offset: int) -> Settings:
    """A small world in a state directory of its own."""
    return small_settings(tmp_path / "state", port_offset)


@pytest.fixture
def clock() -> FixedClock:
    """A clock that stands still, eight weeks into the history."""
    return FixedClock(NOON)


@pytest.fixture
def topic_names() -> Callable[..., list[str]]:
    """Names that no other test uses: `transactions, chargebacks = topic_names("transactions", "chargebacks")`."""

    def fresh(*names: str) -> list[str]:
        number = next(_topic_numbers)
        return [f"test-{number}.{name}" for name in names]

    return fresh


@pytest.fixture(scope="session")
def launch_broker() -> LaunchBroker:
    """Start a broker of one's own, for a test that kills it: `with launch_broker(settings) as broker:`."""
    return running_broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, port_offset: int) -> Iterator[Broker]:
    """The broker of this test run."""
    settings = small_settings(tmp_path_factory.mktemp("broker") / "state", port_offset)
    with running_broker(settings) as running:
        yield running


def small_settings(state_dir: Path, port_offset: int) -> Settings:
    """A small world; no `.env` file of the reader changes it."""
    return Settings(
        _env_file=None,
        state_dir=state_dir,
        port_offset=port_offset,
        customers=100,
        terminals=200,
        viewers=100,
        videos=150,
        history_days=45,
    )


@contextlib.contextmanager
def running_broker(settings: Settings) -> Iterator[Broker]:
    """A real broker on `settings`, ready for clients; stopped at the end, however the test ends."""
    from reference_system.stack.kafka_broker import broker_command, prepare_broker
    from reference_system.stack.kafka_topics import wait_for_broker

    prepare_broker(settings)
    command, environment = broker_command(settings)
    log = settings.state_dir / "kafka.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_for_broker(settings.kafka_bootstrap, settings.ready_seconds)
        yield Broker(bootstrap=settings.kafka_bootstrap, settings=settings, process=process, log=log)
    except BaseException:
        print(log.read_text(errors="replace")[-4000:])  # noqa: T201 - pytest shows it with the failure
        raise
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to stop, then insist."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
