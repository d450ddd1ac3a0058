"""A real MLflow server for tests, started as the system starts it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

from local_broker import stop

from reference_system.settings import Settings
from reference_system.stack.environment import child_environment
from reference_system.stack.services import service_named


@contextlib.contextmanager
def running_mlflow(settings: Settings) -> Iterator[Settings]:
    """MLflow on the port that the settings name; stopped at the end, however the test ends."""
    service = service_named(settings, "mlflow")
    home = settings.state_dir / "mlflow"
    home.mkdir(parents=True, exist_ok=True)
    log = home / "server.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(service.command), env=child_environment(settings), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + settings.ready_seconds
        while service.health.problem() is not None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace")[-4000:])
            time.sleep(0.2)
        yield settings
    finally:
        stop(process)
