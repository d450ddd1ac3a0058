"""The flows process: every Prefect flow of the system, on its schedule and on demand.

In: intervals in simulated hours. Out: deployments on the Prefect server, run one at a time.
Invariant: schedules follow event time: an interval is so many simulated hours at the world's speed.
"""

from __future__ import annotations

import signal
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from reference_system.clock import wall_now

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect import Flow

    from reference_system.flows.prefect_service import ServedFlow
    from reference_system.settings import Settings

# Flows follow one another instead of waiting for one another: each starts this much later than the one before.
_STAGGER = timedelta(seconds=20)
# The others must get a turn between two runs of an urgent flow, also in a fast world.
_LEAST_BETWEEN_URGENT = timedelta(seconds=10)
_HEARTBEAT_SECONDS = 4.0


def main(settings: Settings) -> None:
    """Serve the flows until SIGTERM."""
    from prometheus_client import REGISTRY

    from reference_system.flows.prefect_service import serve
    from reference_system.monitoring.prometheus_gauges import LatestReport
    from reference_system.paths import StatePaths
    from reference_system.process_metrics import beat, serve_metrics

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    REGISTRY.register(LatestReport(StatePaths(settings.state_dir)))
    serve_metrics(settings.port("flows_metrics"))
    # A flow may run for a minute: the heartbeat says that the process lives, the Prefect UI what it does.
    threading.Thread(target=_keep_beating, args=(stopping, beat), daemon=True).start()
    serve(scheduled_flows(settings), wall_now=wall_now, wait=stopping.wait)


def scheduled_flows(settings: Settings) -> list[ServedFlow]:
    """The flows with their intervals in real time, one after the other."""
    from reference_system.flows.prefect_batch import score_batch
    from reference_system.flows.prefect_etl import etl
    from reference_system.flows.prefect_monitor import monitor
    from reference_system.flows.prefect_release import release
    from reference_system.flows.prefect_service import ServedFlow
    from reference_system.flows.prefect_train import train

    rows: tuple[tuple[Flow[..., Any], str, float, dict[str, object]], ...] = (
        (etl, "etl", settings.etl_every_hours, {}),
        (monitor, "monitor", settings.monitor_every_hours, {"act": True}),
        (release, "release", settings.release_every_hours, {}),
        (train, "train-fraud", settings.train_every_hours, {"use_case": "fraud"}),
        (train, "train-recommendation", settings.train_every_hours, {"use_case": "recommendation"}),
        (score_batch, "score-batch-fraud", settings.batch_every_hours, {"use_case": "fraud"}),
        (score_batch, "score-batch-recommendation", settings.batch_every_hours, {"use_case": "recommendation"}),
    )
    start = wall_now()
    served = []
    for place, (flow, name, hours, parameters) in enumerate(rows):
        every = timedelta(hours=hours / settings.speed)
        urgent = flow is release
        if urgent:
            every = max(every, _LEAST_BETWEEN_URGENT)
        # The first run comes after half an interval: a reader sees each flow within a few minutes of `make up`.
        first = start + every / 2 + place * _STAGGER
        # Not a parameter of the deployment: who starts a run in Prefect's page asks for it.
        scheduled = {"trigger": "schedule"} if flow is train else {}
        served.append(
            ServedFlow(
                flow=flow,
                name=name,
                every=every,
                first=first,
                parameters=parameters,
                scheduled=scheduled,
                urgent=urgent,
            )
        )
    return served


def _keep_beating(stopping: threading.Event, beat: Callable[[], None]) -> None:
    while not stopping.wait(_HEARTBEAT_SECONDS):
        beat()
