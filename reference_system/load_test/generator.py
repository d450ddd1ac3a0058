"""Runs Locust in a separate process and measures it from outside.

In: the plan. Out: samples, and the CPU time of the service's and the generator's processes during the run.
Invariant: when `run_generator` returns or raises, the generator has ended.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec
import psutil

from reference_system.errors import ServiceError
from reference_system.load_test.figures import ServiceCost
from reference_system.load_test.plan import LoadPlan, require_loopback
from reference_system.load_test.samples import (
    PLAN_VARIABLE,
    PROGRESS_VARIABLE,
    SAMPLES_VARIABLE,
    GeneratorProgress,
    Samples,
    load_samples,
    read_progress,
)
from reference_system.paths import PROJECT_ROOT
from reference_system.stack.environment import child_environment
from reference_system.stack.metrics_page import read_metrics
from reference_system.stack.ports import port_holder

if TYPE_CHECKING:
    from collections.abc import Callable

    from reference_system.settings import Settings

LOCUSTFILE = PROJECT_ROOT / "load_tests" / "open_loop.py"
SERVED = "workbook_requests_total"
_POLL_SECONDS = 0.25
# The last reading is this long before the end, while the generator still runs.
_READ_BEFORE_END_SECONDS = 0.75
# Time to import Locust and its libraries and to draw all arrivals.
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The result of one run. A cost is absent where a process or its metrics could not be read."""

    samples: Samples
    service: ServiceCost | None
    generator_cpu_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Counters at one time; `served` counts every request that the service answered."""

    moment: float
    service_cpu: float | None
    generator_cpu: float | None
    served: float | None


def run_generator(
    settings: Settings, plan: LoadPlan, samples: Path, watch: Callable[[GeneratorProgress], None]
) -> Measurement:
    """Run the plan to its end, calling `watch` a few times a second.

    Raises:
        SetupError: if the plan goes to another machine.
        ServiceError: if the generator fails; with its last line.
    """
    require_loopback(plan.url)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "plan.json").write_bytes(msgspec.json.encode(plan))
        with (work / "log").open("wb") as log:
            process = subprocess.Popen(
                _command(plan),
                cwd=folder,  # Locust reads configuration from its working directory
                env=_environment(settings, work, samples),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            first, last = _watch_to_the_end(process, settings, plan, work / "progress.json", watch)
        finally:
            _stop(process)
        if process.returncode != 0 or not samples.exists():
            said = (work / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ServiceError(f"the load generator failed: {said[-1] if said else f'exit {process.returncode}'}")
    return Measurement(
        samples=load_samples(samples),
        service=_service_cost(first, last),
        generator_cpu_share=_generator_share(first, last),
    )


def _command(plan: LoadPlan) -> list[str]:
    return [
        *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless", "--host", plan.url),
        *("--users", "1", "--only-summary", "--loglevel", "WARNING", "--exit-code-on-error", "0"),
    ]


def _environment(settings: Settings, work: Path, samples: Path) -> dict[str, str]:
    ours = child_environment(settings)
    # Locust reads options from LOCUST_…: those of the user's shell are not part of the plan.
    environment = {name: value for name, value in ours.items() if not name.startswith("LOCUST_")}
    environment[PLAN_VARIABLE] = str(work / "plan.json")
    environment[PROGRESS_VARIABLE] = str(work / "progress.json")
    environment[SAMPLES_VARIABLE] = str(samples)
    return environment


def _watch_to_the_end(
    process: subprocess.Popen[bytes],
    settings: Settings,
    plan: LoadPlan,
    path: Path,
    watch: Callable[[GeneratorProgress], None],
) -> tuple[_Reading | None, _Reading | None]:
    """Watch the process to its end; returns the readings at both ends of the measured part."""
    first = last = None
    server = _server(settings)
    deadline = monotonic() + _START_SECONDS + plan.whole_seconds + plan.timeout_seconds
    began: float | None = None
    while not _ends_within(process, _POLL_SECONDS):
        if monotonic() > deadline:
            raise ServiceError("the load generator did not finish in time")
        progress = read_progress(path)
        if progress is None:
            continue
        watch(progress)
        began = monotonic() - progress.elapsed if began is None else began
        elapsed = monotonic() - began
        if first is None and elapsed >= plan.warm_up_seconds:
            first = _read(settings, server, process)
        elif first is not None and last is None and elapsed >= plan.whole_seconds - _READ_BEFORE_END_SECONDS:
            last = _read(settings, server, process)
    return first, last


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        if not _ends_within(process, _STOP_SECONDS):
            process.kill()
            process.wait()


def _server(settings: Settings) -> psutil.Process | None:
    """The process that listens on the service's port: its workers are its children."""
    holder = port_holder(settings.port("serving"))
    try:
        return None if holder is None else psutil.Process(holder.pid)
    except psutil.Error:
        return None


def _read(settings: Settings, server: psutil.Process | None, generator: subprocess.Popen[bytes]) -> _Reading:
    served = None
    with contextlib.suppress(OSError):
        served = read_metrics(settings.port("serving")).total(SERVED)
    return _Reading(
        moment=monotonic(),
        service_cpu=None if server is None else _cpu_seconds(server),
        generator_cpu=_cpu_seconds(psutil.Process(generator.pid)) if generator.poll() is None else None,
        served=served,
    )


def _cpu_seconds(process: psutil.Process) -> float | None:
    """CPU time of a process and its descendants so far."""
    try:
        times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    except psutil.Error:
        return None
    return sum(time.user + time.system for time in times)


def _service_cost(first: _Reading | None, last: _Reading | None) -> ServiceCost | None:
    if first is None or last is None:
        return None
    if first.service_cpu is None or last.service_cpu is None or first.served is None or last.served is None:
        return None
    seconds, cpu, served = (
        last.moment - first.moment,
        last.service_cpu - first.service_cpu,
        last.served - first.served,
    )
    # The counters of a service that was restarted in between begin at zero.
    if served <= 0 or cpu < 0:
        return None
    return ServiceCost(
        cpu_share=cpu / seconds, requests_per_second=served / seconds, cpu_ms_per_request=1_000 * cpu / served
    )


def _generator_share(first: _Reading | None, last: _Reading | None) -> float | None:
    if first is None or last is None or first.generator_cpu is None or last.generator_cpu is None:
        return None
    return (last.generator_cpu - first.generator_cpu) / (last.moment - first.moment)
