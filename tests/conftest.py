"""Fixtures that tests of several parts share.

A test that asks for `broker` gets a real Apache Kafka, started once for the whole run on a port block of its own.
`settings` points at the same port block, so `settings.kafka_bootstrap` is that broker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest
from local_broker import NOON, Broker, LaunchBroker, free_port_offset, running_broker, small_settings

from reference_system.clock import FixedClock
from reference_system.settings import Settings

pytest_plugins = ["running_order"]

# How long an example takes is the machine's affair: Hypothesis would fail one that takes more than 200 ms.
hypothesis.settings.register_profile("workbook", deadline=None)
hypothesis.settings.load_profile("workbook")

_topic_numbers = count(1)
_first_numbers: dict[str, object] = {}  # the state of each module's generator before its first test


def pytest_configure() -> None:
    """What the shell of a reader sets must not change the tests; a module may make its settings as it is read."""
    # COLUMNS, the width of a terminal: a test runner may set it.
    for name in [name for name in os.environ if name == "COLUMNS" or name.startswith("WORKBOOK_")]:
        del os.environ[name]


@pytest.fixture(autouse=True)
def _environment_is_put_back() -> Iterator[None]:
    """A command that prepares the environment of a flow does so for its process, which here is the test run."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def _numbers_do_not_depend_on_the_order(request: pytest.FixtureRequest) -> None:
    """A module's generator `RNG` begins anew with each test."""
    rng = getattr(request.module, "RNG", None)
    if rng is not None:
        rng.bit_generator.state = _first_numbers.setdefault(request.module.__name__, rng.bit_generator.state)


@pytest.fixture(scope="session")
def port_offset() -> int:
    """The port block of this test run's broker; a test that starts services takes a `free_port_offset()`."""
    return free_port_offset()


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
