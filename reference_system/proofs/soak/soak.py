"""Soak test: a separate complete system runs for a long time at its normal speed.

In: settings and a number of minutes. Out: samples, the result of every bound, and the ledger at the end.
Invariant: the live system is never touched; the tested system is removed completely.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from reference_system.clock import wall_now
from reference_system.errors import ServiceError
from reference_system.paths import PROJECT_ROOT, StatePaths
from reference_system.progress import Progress
from reference_system.proofs.ledger import ledger
from reference_system.proofs.ledger.report import LedgerReport
from reference_system.proofs.scratch_system import scratch_folder, scratch_settings, terminated_politely
from reference_system.proofs.soak.bounds import Judged, check_bounds
from reference_system.proofs.soak.prefect_lateness import Lateness
from reference_system.proofs.soak.sampler import Sample, Sampler
from reference_system.settings import Settings
from reference_system.stack.environment import child_environment
from reference_system.stack.processes import marked_processes, stop_processes

# A sample costs a few hundredths of a CPU second; a plot has at most _MOST_SAMPLES points.
_LEAST_BETWEEN, _MOST_SAMPLES = 5.0, 480
_SAID = 2_000


class SoakReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a soak test. It passes when every bound holds and the ledger has no problem."""

    minutes: float
    samples: list[Sample]
    judged: list[Judged]
    problems: list[str]  # of the ledger at the end
    verify_seconds: float

    @property
    def passed(self) -> bool:
        """Whether every bound holds and the ledger has no problem."""
        return not self.problems and all(one.holds for one in self.judged)


def run_soak(settings: Settings, *, minutes: float, progress: Progress) -> SoakReport:
    """Start a system next to the live one, sample it, recount its ledger, and remove it.

    Raises:
        ServiceError: if it does not start.
    """
    with terminated_politely() as unwound, whole_system(settings, progress, leaving=unwound.set) as ours:
        samples = watch(ours, minutes=minutes, progress=progress)
        progress(0.95, "verify")
        recount = ledger.recount_and_compare(ours)
    return soak_report(samples, ours, recount)


def soak_report(samples: Sequence[Sample], settings: Settings, recount: LedgerReport) -> SoakReport:
    """Build the report from samples and ledger."""
    return SoakReport(
        minutes=round((samples[-1].seconds - samples[0].seconds) / 60, 1),
        samples=list(samples),
        judged=check_bounds(samples, settings),
        problems=[each.for_person() for each in recount.problems],
        verify_seconds=recount.seconds,
    )


def watch(settings: Settings, *, minutes: float, progress: Progress) -> list[Sample]:
    """Sample a live system at even intervals for `minutes`."""
    seconds = 60.0 * minutes
    between = max(_LEAST_BETWEEN, seconds / _MOST_SAMPLES)
    sampler, samples, began = Sampler(settings), list[Sample](), time.monotonic()
    with Lateness(settings.url("prefect"), since=wall_now()) as lateness:
        while True:
            passed = time.monotonic() - began
            sample = sampler.look(passed)
            late = {f"late: {name} (s)": round(late, 1) for name, late in lateness.seconds().items()}
            samples.append(msgspec.structs.replace(sample, figures={**sample.figures, **late}))
            progress(0.05 + 0.9 * min(passed / seconds, 1.0), _in_words(samples[-1]))
            if passed >= seconds:
                return samples
            time.sleep(max(between - (time.monotonic() - began - passed), 0.0))


def _in_words(sample: Sample) -> str:
    shown = ("memory of all (MB)", "disk of all (MB)", "files on disk", "monitor behind (h)")
    figures = ", ".join(f"{name} {sample.figures[name]:,.0f}" for name in shown if name in sample.figures)
    return f"{sample.event_time:%Y-%m-%d}: {figures}" if sample.event_time else figures


@contextmanager
def whole_system(
    settings: Settings, progress: Progress, *, leaving: Callable[[], None] = lambda: None
) -> Iterator[Settings]:
    """Run every service with the live system's settings in a separate folder and on separate ports; remove it after.

    `leaving` is called before the shutdown, which takes some seconds and must not be interrupted.
    """
    with scratch_folder(StatePaths(settings.state_dir).scratch, "soak") as root:
        # A subfolder: this process holds the folder's lock while the system runs, and `up` takes its own lock.
        elsewhere = scratch_settings(settings, root / "state")
        ours = elsewhere.model_copy(update={"kafka_heap_mb": settings.kafka_heap_mb})
        progress(0.0, "bringing a system up: one to three minutes")
        try:
            _workbook(ours, "up")
            yield ours
        finally:
            leaving()
            _workbook(ours, "down", check=False)
            stop_processes(marked_processes(ours.state_dir))


def _workbook(settings: Settings, verb: str, *, check: bool = True) -> None:
    """Run a `workbook` command for another system; if this process is interrupted, the command is terminated."""
    command = [sys.executable, "-m", "reference_system.cli", verb]
    environment = {**os.environ, **child_environment(settings)}
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
    if check and process.returncode:
        raise ServiceError(f"the system did not come up:\n{output[-_SAID:]}", next_command="workbook doctor")
