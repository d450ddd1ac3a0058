"""The process that serves the flows: schedules and on-demand runs, one at a time, each in a process of its own.

It asks the server for due runs of its deployments and watches over the process of each (`prefect_process.py`). It
imports no flow, so it stays small, and its memory stays what it is (see docs/adr/0025).

In: flows with their intervals. Out: runs that the Prefect server and its UI know.
Invariant: at most one run at a time; of several due runs of one deployment only the newest is run, the others are
marked as skipped; a run whose process is gone is marked as crashed, or as cancelled where somebody asked for that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from multiprocessing.connection import wait as wait_for_any
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.logging import get_logger
from prefect.states import Cancelled, Crashed

from reference_system.flows.prefect_process import ServedFlow, register_deployments, start_run
from reference_system.stack.processes import Marked, stop_processes

# How many due runs one look at the server brings: all deployments, with some air.
_LOOK = 50
# Between two looks for due runs: a run that somebody asks for begins within this.
_LOOK_SECONDS = 2.0
# While a run works: how soon a request to stop the service is seen, and how many of these until one to cancel it is.
_WATCH_SECONDS = 0.5
_WATCHES_TO_CANCEL = 8
# A run that is asked to stop has this long to say so to the server, before it is killed.
_STOP_SECONDS = 4.0


def mark_crashed_runs(client: SyncPrefectClient, deployments: Mapping[UUID, ServedFlow]) -> int:
    """Mark runs whose process is gone as crashed; how many there were. Call it while nothing runs."""
    left = _runs(client, deployments, StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
    for run in left:
        crashed: State[Any] = Crashed(message="The process that ran this was killed.")
        client.set_flow_run_state(run.id, crashed, force=True)
    return len(left)


def run_due(
    client: SyncPrefectClient,
    deployments: Mapping[UUID, ServedFlow],
    *,
    now: datetime,
    stopping: Callable[[], bool] = lambda: False,
) -> FlowRun | None:
    """Run what is urgent, or else the run that has been due longest, if any; returns it when its process has ended.

    A flow that fails is a failed run on the server, not an error of this process. `stopping` is asked while the run
    works; it is stopped with its process as soon as the answer is yes.
    """
    newest: dict[UUID, FlowRun] = {}
    # Since when a deployment waits, by its oldest run: by the newest, one that is often due would never have its turn.
    waits: dict[UUID, datetime] = {}
    for run in sorted(_runs(client, deployments, StateType.SCHEDULED, before=now), key=_expected):
        key = _deployment(run)
        waits.setdefault(key, _expected(run))
        if key in newest and newest[key].auto_scheduled:
            missed: State[Any] = Cancelled(name="Skipped", message="A newer run of this deployment was due as well.")
            client.set_flow_run_state(newest[key].id, missed, force=True)
        newest[key] = run
    if not newest:
        return None
    first = min(newest, key=lambda key: (not deployments[key].urgent, waits[key]))
    chosen = newest[first]
    _run(client, deployments[first], chosen, stopping)
    mark_crashed_runs(client, deployments)
    return chosen


def serve_flows(
    served: Sequence[ServedFlow], *, wall_now: Callable[[], datetime], wait: Callable[[float], bool]
) -> None:
    """Serve until `wait` says so.

    Args:
        served: what to run.
        wall_now: real time; schedules run on it.
        wait: waits so many seconds; true when the process should end.
    """
    logger = get_logger("flows")
    deployments = register_deployments(served)
    settled = False
    with get_client(sync_client=True) as client:
        # Only this kind of look tells the server that somebody serves them, and it writes each time it is told.
        client.get_scheduled_flow_runs_for_deployments(list(deployments), limit=1)
        while True:
            ran = None
            try:
                if not settled:
                    logger.info("reconciled %d runs of a predecessor", mark_crashed_runs(client, deployments))
                    settled = True
                ran = run_due(client, deployments, now=wall_now(), stopping=lambda: wait(0.0))
            except Exception:  # the server is away: supervisord brings it back, and we go on
                logger.exception("the Prefect server did not answer as expected")
                settled = False
            if wait(0.0 if ran else _LOOK_SECONDS):
                return


def _run(client: SyncPrefectClient, served: ServedFlow, run: FlowRun, stopping: Callable[[], bool]) -> None:
    """Run it in a process, and leave none behind."""
    process = start_run(served, run.id)
    watches, cancelled = 0, False
    try:
        while not (wait_for_any([process.sentinel], timeout=_WATCH_SECONDS) or stopping() or cancelled):
            watches += 1
            cancelled = watches % _WATCHES_TO_CANCEL == 0 and _is_cancelling(client, run)
    finally:
        # Also where it seems to have ended: if the fork server was killed, nobody says how its children are.
        stop_processes([Marked(process.pid or 0, run.name)], seconds=_STOP_SECONDS)
        process.join()
    if cancelled:
        # To the engine in that process the request to stop was a crash.
        state: State[Any] = Cancelled(message="Its process was stopped.")
        client.set_flow_run_state(run.id, state, force=True)


def _is_cancelling(client: SyncPrefectClient, run: FlowRun) -> bool:
    return client.read_flow_run(run.id).state_type == StateType.CANCELLING


def _runs(
    client: SyncPrefectClient,
    deployments: Mapping[UUID, ServedFlow],
    *states: StateType,
    before: datetime | None = None,
) -> list[FlowRun]:
    """The runs of these deployments in one of these states, by when they are due."""
    due = FlowRunFilterNextScheduledStartTime(before_=before) if before else None
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))), next_scheduled_start_time=due
        ),
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=list(deployments))),
        # This client sends what is left out as null, which the server refuses.
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC if before else FlowRunSort.ID_DESC,
        limit=_LOOK,
    )


def _expected(run: FlowRun) -> datetime:
    expected = run.expected_start_time
    if expected is None:
        raise ValueError(f"run {run.name} has no time to start")
    return expected


def _deployment(run: FlowRun) -> UUID:
    if run.deployment_id is None:
        raise ValueError(f"run {run.name} belongs to no deployment")
    return run.deployment_id
