"""One live system for all end-to-end tests: a small world, brought up once, taken down at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from local_broker import free_port_offset

from reference_system.paths import PROJECT_ROOT, StatePaths
from reference_system.settings import Settings

UP_SECONDS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSystem:
    """The command line of a system with its own state directory and ports."""

    settings: Settings
    environment: dict[str, str]
    interrupted: subprocess.CompletedProcess[str]  # the first `up`, ended by SIGTERM half-way
    first_up: subprocess.CompletedProcess[str]

    def workbook(self, *arguments: str, seconds: float = UP_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run a verb to its end."""
        return run(self.environment, *arguments, seconds=seconds)

    def status(self) -> dict[str, Any]:
        """What `workbook status --json` prints."""
        asked = self.workbook("status", "--json", seconds=60)
        assert asked.stdout, asked.stderr
        answer: dict[str, Any] = json.loads(asked.stdout)
        return answer

    def healthy_status(self, seconds: float = 90) -> dict[str, Any]:
        """The status once every service passes its check; the last one seen if the time runs out before."""
        deadline = time.monotonic() + seconds
        while True:
            status = self.status()
            if all(service["state"] == "healthy" for service in status["services"]) or time.monotonic() > deadline:
                return status
            time.sleep(0.5)

    def states(self) -> dict[str, str]:
        """State by service."""
        return {service["name"]: service["state"] for service in self.status()["services"]}

    def healthy_states(self) -> dict[str, str]:
        """State by service once each passes its check: beside other tests one may answer too late now and then."""
        return {service["name"]: service["state"] for service in self.healthy_status()["services"]}

    def pids(self) -> dict[str, int]:
        """Process id by service."""
        return {service["name"]: service["pid"] for service in self.status()["services"]}


def run(environment: dict[str, str], *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "reference_system.cli", *arguments],
        cwd=PROJECT_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture(scope="package")  # down as soon as the last of these tests is done: it takes half of the machine
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSystem]:
    settings = Settings(
        _env_file=None,
        state_dir=tmp_path_factory.mktemp("live") / "state",
        port_offset=free_port_offset(),
        # Large enough for a week with frauds in it, and for viewers whose pages were drawn by chance.
        customers=2_000,
        terminals=4_000,
        viewers=1_500,
        videos=600,
        history_days=60,
        ready_seconds=180,
        # A day in fifteen seconds, so that a week fits into a test. What nobody looks at runs seldom: the flows share
        # one process, and what alarms, training and releases take does not grow with the speed.
        speed=5760.0,
        monitor_every_hours=24,
        train_every_hours=2_000,
        batch_every_hours=2_000,
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WORKBOOK_")}
    for name in settings.model_fields_set:
        environment[f"WORKBOOK_{name.upper()}"] = str(getattr(settings, name))
    try:
        interrupted = interrupted_up(settings, environment)
        first_up = run(environment, "up", seconds=UP_SECONDS)
        assert first_up.returncode == 0, first_up.stdout + first_up.stderr
        yield LiveSystem(settings=settings, environment=environment, interrupted=interrupted, first_up=first_up)
    finally:
        run(environment, "down", seconds=120)


def interrupted_up(settings: Settings, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """An `up` that is told to stop once the first services have begun."""
    log = StatePaths(settings.state_dir).logs / "kafka.log"
    command = [sys.executable, "-m", "reference_system.cli", "up"]
    with subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not log.exists():
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
