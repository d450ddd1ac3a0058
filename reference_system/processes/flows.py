"""The flows process: every Prefect flow of the system, on its schedule and on demand.

In: intervals in simulated hours. Out: deployments on the Prefect server, run one at a time.
Invariant: schedules follow event time: an interval is so many simulated hours at the world's speed. When both cores
are asked for, whoever answers requests or reads topics comes first.
"""

from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from reference_system.clock import wall_now
from reference_system.use_case import USE_CASES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reference_system.flows.prefect_process import ServedFlow
    from reference_system.settings import Settings

# Flows follow one another instead of waiting for one another: each starts this much later than the one before.
_STAGGER = timedelta(seconds=20)
# The others must get a turn between two runs of an urgent flow, also in a fast world.
_LEAST_BETWEEN_URGENT = timedelta(seconds=10)
_HEARTBEAT_SECONDS = 4.0
# Of this process and, because they inherit it, of its children: a flow may wait, a request may not.
_NICE = 10


def main(settings: Settings) -> None:
    """Serve the flows until SIGTERM."""
    from prometheus_client import REGISTRY

    from reference_system.flows.prefect_service import serve_flows
    from reference_system.monitoring.report.prometheus_gauges import LatestReport
    from reference_system.paths import StatePaths
    from reference_system.stack.process_metrics import beat, serve_metrics

    os.nice(_NICE)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    REGISTRY.register(LatestReport(StatePaths(settings.state_dir)))
    serve_metrics(settings.port("flows_metrics"))
    # A flow may run for a minute: the heartbeat says that the process lives, the Prefect UI what it does.
    threading.Thread(target=_keep_beating, args=(stopping, beat), daemon=True).start()
    serve_flows(scheduled_flows(settings), wall_now=wall_now, wait=stopping.wait)


def scheduled_flows(settings: Settings) -> list[ServedFlow]:
    """The flows with their intervals in real time, one after the other."""
    from reference_system.flows.prefect_process import ServedFlow

    etl, monitor, release = "prefect_etl:etl", "prefect_monitor:monitor", "prefect_release:release"
    train, batch = "prefect_train:train", "prefect_batch:score_batch"
    rows: tuple[tuple[str, str, float, Mapping[str, object]], ...] = (
        (etl, "etl", settings.etl_every_hours, {}),
        (monitor, "monitor", settings.monitor_every_hours, {"act": True}),
        (release, "release", settings.release_every_hours, {}),
        *((train, f"train-{name}", settings.train_every_hours, {"use_case": name}) for name in USE_CASES),
        *((batch, f"score-batch-{name}", settings.batch_every_hours, {"use_case": name}) for name in USE_CASES),
    )
    start = wall_now()
    served = []
    for place, (flow, name, hours, parameters) in enumerate(rows):
        every = timedelta(hours=hours / settings.speed)
        urgent = name == "release"
        if urgent:
            every = max(every, _LEAST_BETWEEN_URGENT)
        # The first run comes after half an interval: a reader sees each flow within a few minutes of `make up`.
        first = start + every / 2 + place * _STAGGER
        served.append(
            ServedFlow(
                entrypoint=f"reference_system.flows.{flow}",
                name=name,
                every=every,
                first=first,
                parameters=parameters,
                # A run that somebody starts in Prefect's page is one that was asked for, and not the schedule's.
                scheduled={"trigger": "schedule"} if flow == train else {},
                urgent=urgent,
            )
        )
    return served


def _keep_beating(stopping: threading.Event, beat: Callable[[], None]) -> None:
    while not stopping.wait(_HEARTBEAT_SECONDS):
        beat()
