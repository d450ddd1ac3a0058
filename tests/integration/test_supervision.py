"""A real supervisord over one real service: what `up` and `down` rely on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from local_broker import free_port_offset, small_settings

from reference_system.errors import ServiceError
from reference_system.settings import PORT_NAMES, Settings
from reference_system.stack.kafka.jars import resolve_jars
from reference_system.stack.ports import is_port_free
from reference_system.stack.processes import marked_processes
from reference_system.stack.services import service_named
from reference_system.stack.state_dir import prepare_state_dir
from reference_system.stack.status_report import ORPHANED, service_states
from reference_system.stack.supervisor.client import NotAnswering, Supervisor
from reference_system.stack.supervisor.config import write_config
from reference_system.stack.supervisor.daemon import (
    end_everything,
    end_orphans,
    restart_service,
    start_supervisor,
    unexpected_ends,
)

SECONDS = 60


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Ports of its own: the broker of this test run listens on the others."""
    return small_settings(tmp_path / "state", free_port_offset())


@contextmanager
def supervised(settings: Settings) -> Iterator[Supervisor]:
    resolve_jars()
    prepare_state_dir(settings)
    yield start_supervisor(settings)
    end_everything(settings)
    assert marked_processes(settings.state_dir) == []


@pytest.fixture
def supervisor(settings: Settings) -> Iterator[Supervisor]:
    with supervised(settings) as started:
        yield started


@pytest.fixture
def kafka(settings: Settings, supervisor: Supervisor) -> int:
    return kafka_of(settings, supervisor)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Supervisor]]:
    settings = small_settings(tmp_path_factory.mktemp("lasting") / "state", free_port_offset())
    with supervised(settings) as supervisor:
        yield settings, supervisor


@pytest.fixture
def lasting(started: tuple[Settings, Supervisor]) -> tuple[Settings, Supervisor]:
    """A supervisor with a healthy broker for the tests that leave both running."""
    settings, supervisor = started
    if supervisor.process("kafka").state == "STOPPED":
        supervisor.start("kafka")
    until_healthy(settings, supervisor)
    return settings, supervisor


def kafka_of(settings: Settings, supervisor: Supervisor) -> int:
    supervisor.start("kafka")
    until_healthy(settings, supervisor)
    return pid_of(supervisor, "kafka")


def until_healthy(settings: Settings, supervisor: Supervisor) -> None:
    until(lambda: supervisor.process("kafka").state == "RUNNING")
    until(lambda: service_named(settings, "kafka").health.problem() is None)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def pid_of(supervisor: Supervisor, name: str) -> int:
    pid = supervisor.process(name).pid
    assert pid is not None
    return pid


def test_nothing_runs_before_it_is_asked_for(settings: Settings, supervisor: Supervisor) -> None:
    assert {process.state for process in supervisor.processes().values()} == {"STOPPED"}
    assert [found.service for found in marked_processes(settings.state_dir)] == ["supervisor"]


def test_the_supervised_process_is_the_broker_itself(lasting: tuple[Settings, Supervisor]) -> None:
    settings, supervisor = lasting
    kafka = pid_of(supervisor, "kafka")
    assert psutil.Process(kafka).name() == "java"
    states = {state.name: state for state in service_states(settings)}
    assert (states["kafka"].state, states["kafka"].pid) == ("healthy", kafka)
    assert states["mlflow"].state == "stopped"


def test_a_restart_that_was_asked_for_is_not_reported(lasting: tuple[Settings, Supervisor]) -> None:
    settings, supervisor = lasting
    kafka = pid_of(supervisor, "kafka")
    reported = unexpected_ends(settings, supervisor)
    restart_service(settings, supervisor, service_named(settings, "kafka"))

    assert pid_of(supervisor, "kafka") != kafka
    assert set(unexpected_ends(settings, supervisor)) <= set(reported)


def test_a_killed_service_is_started_again_and_reported(lasting: tuple[Settings, Supervisor]) -> None:
    settings, supervisor = lasting
    kafka = pid_of(supervisor, "kafka")
    reported = unexpected_ends(settings, supervisor)
    os.kill(kafka, signal.SIGKILL)

    until(lambda: supervisor.process("kafka").pid not in (None, kafka))
    until_healthy(settings, supervisor)

    (line,) = set(unexpected_ends(settings, supervisor)) - set(reported)
    assert line.startswith("kafka was killed by SIGKILL at ")


def test_the_orphans_of_a_killed_supervisor_are_found_and_stopped(
    settings: Settings, supervisor: Supervisor, kafka: int
) -> None:
    daemon = supervisor.pid()
    os.kill(daemon, signal.SIGKILL)
    until(lambda: not supervisor.is_alive())
    assert psutil.pid_exists(kafka)
    seen = {service.name: (service.state, service.pid) for service in service_states(settings)}
    assert (seen["kafka"], seen["mlflow"]) == ((ORPHANED, kafka), ("stopped", None))

    assert [(found.pid, found.service) for found in end_orphans(settings)] == [(kafka, "kafka")]

    assert marked_processes(settings.state_dir) == []


def test_down_stops_in_order_and_leaves_neither_process_nor_port(settings: Settings, kafka: int) -> None:
    ended = end_everything(settings)

    assert ended.services == ("kafka",)
    assert ended.leftovers == ()
    assert not psutil.pid_exists(kafka)
    assert all(is_port_free(settings.port(name)) for name in PORT_NAMES)


def test_a_supervisor_that_hangs_is_ended_all_the_same(
    settings: Settings, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reference_system.stack.supervisor.client._TIMEOUT_SECONDS", 1.0)
    daemon = supervisor.pid()
    os.kill(daemon, signal.SIGSTOP)

    ended = end_everything(settings)

    assert [found.pid for found in ended.leftovers] == [daemon]
    assert marked_processes(settings.state_dir) == []


def test_without_the_password_it_does_not_answer(settings: Settings, supervisor: Supervisor) -> None:
    daemon = supervisor.pid()
    write_config(settings)  # another password

    with pytest.raises(NotAnswering):
        Supervisor(settings).processes()
    assert psutil.pid_exists(daemon)


def test_a_service_that_it_does_not_know_is_an_error_with_the_next_command(supervisor: Supervisor) -> None:
    with pytest.raises(ServiceError, match="another version started it") as caught:
        supervisor.process("a-service-of-tomorrow")

    assert caught.value.next_command == "make down"
