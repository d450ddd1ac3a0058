"""How late flow runs start, from Prefect's record of the runs that began since the last query.

In: Prefect's server. Out: for each deployment the longest delay between the scheduled and the actual start.
Invariant: only scheduled runs count; a run that a person started is never late.
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
# Prefect gives a run that has not begun its scheduled time as start time, and there are hundreds of those.
_BEGUN = [StateType.RUNNING, StateType.COMPLETED, StateType.FAILED, StateType.CRASHED]


class Lateness:
    """Queries a server for the runs that began since its last query; a context manager."""

    def __init__(self, url: str, *, since: datetime) -> None:
        """Take the server's address without `/api`, and the real time from which on runs count."""
        self._client = SyncPrefectClient(f"{url}/api")
        self._since = since
        self._names: dict[str, str] = {}
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        """Connect."""
        self._client.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Disconnect."""
        self._client.__exit__(*exception)

    def seconds(self) -> dict[str, float]:
        """The longest delay by deployment, in real seconds; deployments without a new run are absent."""
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
