"""The flows process against a real Prefect server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelling, Running, Scheduled
from prefect.testing.utilities import prefect_test_harness

from reference_system.flows.prefect_process import ServedFlow, register_deployments
from reference_system.flows.prefect_service import mark_crashed_runs, run_due
from reference_system.processes.flows import scheduled_flows
from reference_system.stack.environment import child_environment

pytestmark = pytest.mark.integration
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@flow
def double(number: int = 1) -> int:
    return 2 * number


@flow
def fail() -> None:
    raise ValueError("planted")


@flow
def hang(note: str) -> None:
    """Say which process this is, and work until somebody ends it."""
    draft = Path(f"{note}.draft")
    draft.write_text(str(os.getpid()), encoding="utf-8")
    draft.rename(note)
    while True:
        time.sleep(0.1)


@pytest.fixture(scope="module")
def own_fork_server():
    """A fork server for this module alone: that of the drills carries their mark, and ends with them."""

    def forget() -> None:
        one = forkserver._forkserver
        if one._forkserver_alive_fd is not None:
            os.close(one._forkserver_alive_fd)  # it ends when this is closed
        one.__init__()

    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def server(own_fork_server):  # noqa: ARG001 - runs are forked from it
    with prefect_test_harness(server_startup_timeout=120), pytest.MonkeyPatch.context() as patch:
        # What the processes of the runs inherit.
        patch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        yield


@pytest.fixture
def client(server):  # noqa: ARG001 - the server must be up
    with get_client(sync_client=True) as client:
        yield client


def served(one, name):
    # The first scheduled run lies far away: a test asks for its runs itself.
    entrypoint = f"{__name__}:{one.fn.__name__}"
    return ServedFlow(entrypoint=entrypoint, name=name, every=timedelta(days=1), first=LATER)


@pytest.fixture
def hanging(client, tmp_path):
    """A due run that works until its process is ended: its deployments, itself, and its process once it works."""
    deployments = register_deployments([served(hang, "hangs")])
    (deployment,) = deployments
    note = tmp_path / "pid"
    asked = client.create_flow_run_from_deployment(deployment, parameters={"note": str(note)})

    def working():
        while not note.exists():
            time.sleep(0.05)
        return psutil.Process(int(note.read_text(encoding="utf-8")))

    return deployments, asked, working


def test_a_run_asked_for_on_the_server_is_run_here_with_its_parameters(client):
    deployments = register_deployments([served(double, "asked")])
    (deployment,) = deployments
    asked = client.create_flow_run_from_deployment(deployment, parameters={"number": 21})
    ran = run_due(client, deployments, now=datetime.now(UTC))
    assert ran is not None
    assert ran.id == asked.id
    finished = client.read_flow_run(asked.id)
    assert finished.state_type == StateType.COMPLETED
    assert finished.parameters == {"number": 21}


def test_nothing_is_run_before_it_is_due(client):
    deployments = register_deployments([served(double, "not due")])
    (deployment,) = deployments
    tomorrow = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
    client.create_flow_run_from_deployment(deployment, state=tomorrow)
    assert run_due(client, deployments, now=datetime.now(UTC)) is None


def test_a_flow_that_fails_is_a_failed_run_and_the_next_one_still_runs(client):
    deployments = register_deployments([served(fail, "fails")])
    (deployment,) = deployments
    asked = client.create_flow_run_from_deployment(deployment)
    run_due(client, deployments, now=datetime.now(UTC))
    state = client.read_flow_run(asked.id).state
    assert state is not None
    assert state.type == StateType.FAILED
    assert "planted" in (state.message or "")
    assert run_due(client, deployments, now=datetime.now(UTC)) is None


def test_a_run_that_a_killed_process_left_running_is_marked_as_crashed(client):
    deployments = register_deployments([served(double, "killed")])
    (deployment,) = deployments
    left = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(left.id, Running(), force=True)
    assert mark_crashed_runs(client, deployments) == 1
    assert client.read_flow_run(left.id).state_type == StateType.CRASHED
    assert mark_crashed_runs(client, deployments) == 0


def test_an_urgent_flow_does_not_queue_behind_one_that_was_due_before(client):
    usual, urgent = served(double, "usual"), replace(served(double, "urgent"), urgent=True)
    deployments = register_deployments([usual, urgent])
    of = {one.name: deployment for deployment, one in deployments.items()}
    earlier = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(minutes=5))
    asked = {
        name: client.create_flow_run_from_deployment(of[name], parameters={"number": 1}, state=state)
        for name, state in (("usual", earlier), ("urgent", None))
    }
    ran = [run_due(client, deployments, now=datetime.now(UTC)) for _ in range(2)]
    assert [run and run.id for run in ran] == [asked["urgent"].id, asked["usual"].id]


def test_a_run_is_a_process_of_its_own_and_one_that_is_killed_is_marked_as_crashed(client, hanging):
    deployments, asked, working = hanging
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(lambda: working().kill())
        ran = run_due(client, deployments, now=datetime.now(UTC))
        killed.result()
    assert ran is not None
    assert ran.id == asked.id
    assert client.read_flow_run(asked.id).state_type == StateType.CRASHED


def test_after_a_run_that_was_killed_the_next_one_runs(client, hanging):
    deployments, _, working = hanging
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: working().kill())
        run_due(client, deployments, now=datetime.now(UTC))
    others = register_deployments([served(double, "after a kill")])
    (deployment,) = others
    asked = client.create_flow_run_from_deployment(deployment)
    run_due(client, others, now=datetime.now(UTC))
    assert client.read_flow_run(asked.id).state_type == StateType.COMPLETED


def test_a_service_that_stops_leaves_no_process_of_a_run_behind(client, hanging):
    deployments, asked, working = hanging
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(working)
        run_due(client, deployments, now=datetime.now(UTC), stopping=begun.done)
    assert not begun.result().is_running()
    assert client.read_flow_run(asked.id).state_type == StateType.CRASHED


def test_a_run_that_somebody_cancels_on_the_server_ends_with_its_process(client, hanging):
    deployments, asked, working = hanging

    def cancel():
        process = working()
        with get_client(sync_client=True) as another:
            another.set_flow_run_state(asked.id, Cancelling())
        return process

    with ThreadPoolExecutor(1) as pool:
        process = pool.submit(cancel)
        run_due(client, deployments, now=datetime.now(UTC))
    assert not process.result().is_running()
    assert client.read_flow_run(asked.id).state_type == StateType.CANCELLED


def test_looking_for_due_runs_writes_nothing(client):
    deployments = register_deployments([served(double, "only looked at")])
    (deployment,) = deployments
    run_due(client, deployments, now=datetime.now(UTC))
    assert client.read_deployment(deployment).last_polled is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere runs are not forks")
def test_what_the_flows_import_starts_no_thread_that_a_fork_would_not_have(settings):
    modules = {one.entrypoint.partition(":")[0] for one in scheduled_flows(settings)}
    lines = [f"import {', '.join(sorted(modules))}", "import os", "print(len(os.listdir('/proc/self/task')))"]
    done = subprocess.run(
        [sys.executable, "-c", "; ".join(lines)],
        env=child_environment(settings),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "1"


def test_only_runs_of_the_schedule_get_its_parameters(client):
    one = replace(served(double, "by schedule"), parameters={"number": 4}, scheduled={"number": 5})
    (deployment,) = register_deployments([one])
    known = client.read_deployment(deployment)
    assert [schedule.parameters for schedule in known.schedules] == [{"number": 5}]
    asked = client.create_flow_run_from_deployment(deployment)
    assert asked.parameters == {"number": 4}


def test_only_the_schedules_own_trainings_say_that_they_are_scheduled(settings):
    for one in scheduled_flows(settings):
        assert dict(one.scheduled) == ({"trigger": "schedule"} if one.name.startswith("train-") else {}), one.name
        assert "trigger" not in one.parameters, one.name
