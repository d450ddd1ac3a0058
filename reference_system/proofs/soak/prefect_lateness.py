"""How late flows start: what Prefect says of the runs that began since one last asked.

In: Prefect's server. Out: for each deployment the longest delay between the moment that was planned and the start.
Invariant: only runs that were planned by a schedule count; what a person asks for is not late.
"""

from __future__ import annotations

from datetime import datetime
from typing import Self

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

_MOST_RUNS = 50
# To Prefect a run that has not begun starts when it is planned, and there are hundreds of those.
_BEGUN = [StateType.RUNNING, StateType.COMPLETED, StateType.FAILED, StateType.CRASHED]


class Lateness:
    """Asks a server for what began since it last asked; use it as a context manager."""

    def __init__(self, url: str, *, since: datetime) -> None:
        """The server's address without `/api`, and the first moment that counts (real time)."""
        self._client = SyncPrefectClient(f"{url}/api")
        self._since = since
        self._names: dict[str, str] = {}
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        """Connect."""
        self._client.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the server."""
        self._client.__exit__(*exception)

    def seconds(self) -> dict[str, float]:
        """By deployment, in real seconds; those of which no run began are absent."""
        begun = FlowRunFilter(
            start_time=FlowRunFilterStartTime(after_=self._since),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_BEGUN)),
        )
        runs = self._client.read_flow_runs(flow_run_filter=begun, sort=FlowRunSort.START_TIME_DESC, limit=_MOST_RUNS)
        found: dict[str, float] = {}
        for run in runs:
            if str(run.id) in self._told or not run.auto_scheduled:
                continue
            self._told.add(str(run.id))
            if run.start_time is not None and run.expected_start_time is not None:
                name = self._name(str(run.deployment_id))
                found[name] = max(found.get(name, 0.0), (run.start_time - run.expected_start_time).total_seconds())
        return found

    def _name(self, deployment: str) -> str:
        if deployment not in self._names:
            self._names[deployment] = self._client.read_deployment(deployment).name
        return self._names[deployment]
