"""The process that serves the flows: schedules and on-demand runs, one at a time, in one interpreter.

`prefect.serve` starts a fresh interpreter for each run, which imports Feast, MLflow and Prefect again: ten seconds
of CPU and half a gigabyte each time, on a machine that also serves. This process imports them once, asks the server
for due runs of its deployments and gives each to Prefect's own engine (see docs/adr/0008).

In: flows with their intervals. Out: runs that the Prefect server and its UI know.
Invariant: at most one run at a time; of several due runs of one deployment only the newest is run, the others are
marked as skipped; a run that a killed predecessor left "Running" is marked as crashed at start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.logging import get_logger
from prefect.schedules import Interval
from prefect.states import Cancelled, Crashed
from prefect.types.entrypoint import EntrypointType

if TYPE_CHECKING:
    from prefect.client.schemas.responses import FlowRunResponse
    from prefect.deployments.runner import RunnerDeployment

# How many due runs one look at the server brings: all deployments, with some air.
_LOOK = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFlow:
    """A flow under a deployment name, run every `every` of real time after `first` and whenever somebody asks.

    `scheduled` are parameters of the schedule's runs alone: a run that somebody asks for does not have them. An urgent
    flow does not queue behind others that were due before it.
    """

    flow: Flow[..., Any]
    name: str
    every: timedelta
    first: datetime
    parameters: Mapping[str, object] = field(default_factory=dict)
    scheduled: Mapping[str, object] = field(default_factory=dict)
    urgent: bool = False


def register(served: Sequence[ServedFlow]) -> dict[UUID, ServedFlow]:
    """Create or update the deployments on the server; by id."""
    deployments = {}
    for one in served:
        deployment = one.flow.to_deployment(
            name=one.name,
            schedule=Interval(one.every, anchor_date=one.first, parameters=dict(one.scheduled)),
            parameters=dict(one.parameters),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        # Both are typed for callers with an event loop as well; without one they return the value itself.
        deployments[cast("UUID", cast("RunnerDeployment", deployment).apply())] = one
    return deployments


def reconcile(client: SyncPrefectClient, deployments: Mapping[UUID, ServedFlow]) -> int:
    """Mark runs that a killed predecessor left pending or running as crashed; how many there were."""
    unfinished = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
    left = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished))),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=list(deployments))),
        # This client sends what is left out as null, which the server refuses.
        sort=FlowRunSort.ID_DESC,
        limit=_LOOK,
    )
    for run in left:
        state: State[Any] = Crashed(message="The process that ran this was killed.")
        client.set_flow_run_state(run.id, state, force=True)
    return len(left)


def run_due(client: SyncPrefectClient, deployments: Mapping[UUID, ServedFlow], *, now: datetime) -> FlowRun | None:
    """Run what is urgent, or else the run that has been due longest, if any; returns it.

    A flow that fails is a failed run on the server, not an error of this process.
    """
    due = client.get_scheduled_flow_runs_for_deployments(list(deployments), scheduled_before=now, limit=_LOOK)
    newest: dict[UUID, FlowRunResponse] = {}
    # Since when a deployment waits, by its oldest run: by the newest, one that is often due would never have its turn.
    waits: dict[UUID, datetime] = {}
    for run in sorted(due, key=_expected):
        key = _deployment(run)
        waits.setdefault(key, _expected(run))
        if key in newest and newest[key].auto_scheduled:
            missed: State[Any] = Cancelled(name="Skipped", message="A newer run of this deployment was due as well.")
            client.set_flow_run_state(newest[key].id, missed, force=True)
        newest[key] = run
    if not newest:
        return None
    first = min(newest, key=lambda key: (not deployments[key].urgent, waits[key]))
    chosen = client.read_flow_run(newest[first].id)
    # A failure is recorded by the engine with its message; it must not end the process that serves the others.
    with contextlib.suppress(Exception):
        run_flow(deployments[_deployment(chosen)].flow, flow_run=chosen)
    return chosen


def serve(served: Sequence[ServedFlow], *, wall_now: Callable[[], datetime], wait: Callable[[float], bool]) -> None:
    """Serve until `wait` says so.

    Args:
        served: what to run.
        wall_now: real time; schedules run on it.
        wait: waits so many seconds; true when the process should end.
    """
    logger = get_logger("flows")
    deployments = register(served)
    with get_client(sync_client=True) as client:
        logger.info("reconciled %d runs of a predecessor", reconcile(client, deployments))
        while True:
            try:
                ran = run_due(client, deployments, now=wall_now())
            except Exception:  # the server is away: supervisord brings it back, and we go on
                logger.exception("the Prefect server did not answer as expected")
                ran = None
            if wait(0.0 if ran else 1.0):
                return


def _expected(run: FlowRunResponse) -> datetime:
    expected = run.expected_start_time
    if expected is None:
        raise ValueError(f"run {run.name} has no time to start")
    return expected


def _deployment(run: FlowRun | FlowRunResponse) -> UUID:
    if run.deployment_id is None:
        raise ValueError(f"run {run.name} belongs to no deployment")
    return run.deployment_id
