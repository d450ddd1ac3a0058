"""A flow run in a process of its own, which ends with it: what the run took goes back to the system.

In: declarations of flows by their entry points, and runs that the Prefect server knows. Out: deployments; states and
logs of the runs on the server, by Prefect's own engine.
Invariant: the process that asks for a run never imports a flow. What flows import is loaded once, into a process
with a single thread that does nothing but fork: `multiprocessing`'s fork server (see docs/adr/0025).
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import TerminationSignal
from prefect.flow_engine import run_flow
from prefect.schedules import Interval
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.importtools import import_object

from reference_system.use_case import USE_CASES

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

# On macOS the system's own libraries may start threads, which a fork does not have: there each run imports anew.
_CONTEXT = (
    multiprocessing.get_context("spawn") if sys.platform == "darwin" else multiprocessing.get_context("forkserver")
)
# Imported by name while a flow runs: Feast's offline store and what it needs, a second of CPU in each ETL, and what
# each use case does in a flow.
_IMPORTED_LATE = (
    "reference_system.features.feast.asof_offline",
    *(
        f"reference_system.flows.{package}.{use_case}"
        for package in ("training", "batch", "monitoring", "release")
        for use_case in USE_CASES
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedFlow:
    """A flow under a deployment name, run every `every` of real time after `first` and whenever somebody asks.

    `entrypoint` is `module:name`. `scheduled` are parameters that only the schedule's own runs get. An urgent flow
    does not queue behind others that were due before it.
    """

    entrypoint: str
    name: str
    every: timedelta
    first: datetime
    parameters: Mapping[str, object] = field(default_factory=dict)
    scheduled: Mapping[str, object] = field(default_factory=dict)
    urgent: bool = False


def register_deployments(served: Sequence[ServedFlow]) -> dict[UUID, ServedFlow]:
    """Create or update the deployments on the server; by id."""
    modules = dict.fromkeys(one.entrypoint.partition(":")[0] for one in served)
    _CONTEXT.set_forkserver_preload([__name__, *modules, *_IMPORTED_LATE])
    with ProcessPoolExecutor(1, mp_context=_CONTEXT) as pool:
        return dict(zip(pool.submit(_deploy, served).result(), served, strict=True))


def start_run(served: ServedFlow, run: UUID) -> BaseProcess:
    """The process of a run of this flow, started. It ends with the run, whatever becomes of it."""
    process = _CONTEXT.Process(target=_execute, args=(served.entrypoint, run))
    process.start()
    return process


def _deploy(served: Sequence[ServedFlow]) -> list[UUID]:
    """Create or update the deployments, in a process that may import the flows."""
    deployments = []
    for one in served:
        deployment = import_object(one.entrypoint).to_deployment(
            name=one.name,
            schedule=Interval(one.every, anchor_date=one.first, parameters=dict(one.scheduled)),
            parameters=dict(one.parameters),
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
        # Both are typed for callers with an event loop as well; without one they return the value itself.
        deployments.append(cast("UUID", cast("RunnerDeployment", deployment).apply()))
    return deployments


def _execute(entrypoint: str, run: UUID) -> None:
    """Be the process of a run."""
    # A collection would write into every page that this process shares with the fork server, and so copy it.
    gc.freeze()
    flow = import_object(entrypoint)
    with get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(run)
    # The engine records a failure with its message, and a request to stop as a crash.
    with contextlib.suppress(Exception, TerminationSignal):
        run_flow(flow, flow_run=flow_run)
