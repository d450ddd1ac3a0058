"""The flows process against a real Prefect server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.states import Running, Scheduled
from prefect.testing.utilities import prefect_test_harness

from reference_system.commands.run_flows import scheduled_flows
from reference_system.flows.prefect_service import ServedFlow, reconcile, register, run_due
from reference_system.settings import Settings

pytestmark = pytest.mark.integration
LATER = datetime(2100, 1, 1, tzinfo=UTC)


@flow
def double(number: int = 1) -> int:
    return 2 * number


@flow
def fail() -> None:
    raise ValueError("planted")


@pytest.fixture(scope="module")
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture
def client(server):  # noqa: ARG001 - the server must be up
    with get_client(sync_client=True) as client:
        yield client


def served(one, name):
    # The first scheduled run lies far away: a test asks for its runs itself.
    return ServedFlow(flow=one, name=name, every=timedelta(days=1), first=LATER)


def test_a_run_asked_for_on_the_server_is_run_here_with_its_parameters(client):
    deployments = register([served(double, "asked")])
    (deployment,) = deployments
    asked = client.create_flow_run_from_deployment(deployment, parameters={"number": 21})
    ran = run_due(client, deployments, now=datetime.now(UTC))
    assert ran is not None
    assert ran.id == asked.id
    finished = client.read_flow_run(asked.id)
    assert finished.state_type == StateType.COMPLETED
    assert finished.parameters == {"number": 21}


def test_nothing_is_run_before_it_is_due(client):
    deployments = register([served(double, "not due")])
    (deployment,) = deployments
    tomorrow = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
    client.create_flow_run_from_deployment(deployment, state=tomorrow)
    assert run_due(client, deployments, now=datetime.now(UTC)) is None


def test_a_flow_that_fails_is_a_failed_run_and_the_next_one_still_runs(client):
    deployments = register([served(fail, "fails")])
    (deployment,) = deployments
    asked = client.create_flow_run_from_deployment(deployment)
    run_due(client, deployments, now=datetime.now(UTC))
    state = client.read_flow_run(asked.id).state
    assert state is not None
    assert state.type == StateType.FAILED
    assert "planted" in (state.message or "")
    assert run_due(client, deployments, now=datetime.now(UTC)) is None


def test_a_run_that_a_killed_process_left_running_is_marked_as_crashed(client):
    deployments = register([served(double, "killed")])
    (deployment,) = deployments
    left = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(left.id, Running(), force=True)
    assert reconcile(client, deployments) == 1
    assert client.read_flow_run(left.id).state_type == StateType.CRASHED
    assert reconcile(client, deployments) == 0


def test_an_urgent_flow_does_not_queue_behind_one_that_was_due_before(client):
    usual, urgent = served(double, "usual"), replace(served(double, "urgent"), urgent=True)
    deployments = register([usual, urgent])
    of = {one.name: deployment for deployment, one in deployments.items()}
    earlier = Scheduled(scheduled_time=datetime.now(UTC) - timedelta(minutes=5))
    asked = {
        name: client.create_flow_run_from_deployment(of[name], parameters={"number": 1}, state=state)
        for name, state in (("usual", earlier), ("urgent", None))
    }
    ran = [run_due(client, deployments, now=datetime.now(UTC)) for _ in range(2)]
    assert [run and run.id for run in ran] == [asked["urgent"].id, asked["usual"].id]


def test_parameters_of_the_schedule_are_in_its_runs_and_in_none_that_somebody_asks_for(client):
    deployments = register([replace(served(double, "both"), scheduled={"number": 4})])
    (deployment,) = deployments
    registered = client.read_deployment(deployment)
    assert registered.parameters == {}
    assert [one.parameters for one in registered.schedules] == [{"number": 4}]
    client.create_flow_run_from_deployment(deployment)
    ran = run_due(client, deployments, now=datetime.now(UTC))
    assert ran is not None
    assert ran.parameters == {}


def test_only_the_schedules_own_trainings_say_that_they_are_scheduled(tmp_path):
    found = {one.name: one for one in scheduled_flows(Settings(_env_file=None, state_dir=tmp_path))}
    for name, one in found.items():
        assert dict(one.scheduled) == ({"trigger": "schedule"} if name.startswith("train-") else {}), name
        assert "trigger" not in one.parameters, name
