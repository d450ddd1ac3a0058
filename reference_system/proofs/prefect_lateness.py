"""How late flows start: what Prefect says of the runs that began since one last asked.

In: Prefect's server. Out: for each deployment the longest delay between the moment that was planned and the start.
Invariant: only runs that were planned by a schedule count; what a person asks for is not late.
"""

from __future__ import annotations

from datetime import datetime
from typing import Self

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterStartTime
from prefect.client.schemas.sorting import FlowRunSort

_MOST_RUNS = 100


class Lateness:
    """Asks a server for what began since it last asked; use it as a context manager."""

    def __init__(self, url: str, *, since: datetime) -> None:
        """The server's address without `/api`, and the first moment that counts (real time)."""
        self._client = SyncPrefectClient(f"{url}/api")
        self._since = since
        self._names: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Connect."""
        self._client.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the server."""
        self._client.__exit__(*exception)

    def seconds(self) -> dict[str, float]:
        """By deployment, in real seconds; those of which no run began are absent."""
        runs = self._client.read_flow_runs(
            flow_run_filter=FlowRunFilter(start_time=FlowRunFilterStartTime(after_=self._since)),
            sort=FlowRunSort.ID_DESC,
            limit=_MOST_RUNS,
        )
        found: dict[str, float] = {}
        for run in runs:
            if run.start_time is None or run.expected_start_time is None or not run.auto_scheduled:
                continue
            name = self._name(str(run.deployment_id))
            found[name] = max(found.get(name, 0.0), (run.start_time - run.expected_start_time).total_seconds())
            self._since = max(self._since, run.start_time)
        return found

    def _name(self, deployment: str) -> str:
        if deployment not in self._names:
            self._names[deployment] = self._client.read_deployment(deployment).name
        return self._names[deployment]
