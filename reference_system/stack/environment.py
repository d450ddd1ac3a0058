"""The environment of every process that we start: the same settings, no telemetry, short timeouts.

In: settings and our own environment. Out: a child's environment.
Invariant: a child sees exactly the settings of its parent, whatever `.env` says by then, and nothing phones home.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

from reference_system.paths import StatePaths
from reference_system.settings import ENV_PREFIX, LOOPBACK, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

# Which service a process belongs to: how processes are found again when their supervisor was killed.
SERVICE_MARK = "WORKBOOK_SERVICE"
STATE_MARK = "WORKBOOK_STATE_DIR"

# `true` in lower case: MLflow ignores `DO_NOT_TRACK=1`.
TELEMETRY_SWITCHES = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "BENTOML_DO_NOT_TRACK": "true",
    "FEAST_USAGE": "false",
    # On by default in the Linux wheels since 1.29; it is also a thread in every process that imports the runtime.
    "ORT_DISABLE_TELEMETRY": "true",
}
# Prefect on SQLite: each service that looks for work every few seconds is also a writer. Marking runs as late reads
# before it writes, in one transaction that SQLite refuses ("database is locked") where another one wrote in between.
_PREFECT_SERVER = {
    **{
        f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false"
        # What they serve is not used here: late and paused runs, workers, leases, automations, the feed of events.
        for name in (
            "LATE_RUNS",
            "PAUSE_EXPIRATIONS",
            "FOREMAN",
            "CLEANUP_RECONCILER",
            "REPOSSESSOR",
            "TRIGGERS",
            "EVENT_PERSISTER",
        )
    },
    # By default an hour of runs ahead, which at a run every 15 s are written and looked through all the time.
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME": "PT3M",
    # States of tasks, some at once and not each by itself.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "20",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "2",
    # Hundreds of runs an hour: the newest day of them is kept.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "86400",
}
# MLflow and Prefect go quiet by themselves under CI; what a reader runs must be what CI tests.
HIDES_LEAKS = "CI"
# With it every start compiles every library anew: twice the CPU time (mlflow 6.2 s instead of 2.8 s to import).
SLOWS_STARTS = "PYTHONDONTWRITEBYTECODE"


def child_environment(settings: Settings, *, service: str | None = None) -> dict[str, str]:
    """The whole environment of a child, from ours; `service` marks the process as part of that service."""
    environment = {name: value for name, value in os.environ.items() if name not in (HIDES_LEAKS, SLOWS_STARTS)}
    environment |= TELEMETRY_SWITCHES | _settings_variables(settings) | _platform_variables(settings)
    environment |= _without_proxy(environment)
    if service is not None:
        environment[SERVICE_MARK] = service
    return environment


def _settings_variables(settings: Settings) -> dict[str, str]:
    """Every setting as the variable that sets it."""
    values = {name: getattr(settings, name) for name in Settings.model_fields}
    return {
        ENV_PREFIX + name.upper(): value.isoformat() if isinstance(value, datetime) else str(value)
        for name, value in values.items()
    }


def _platform_variables(settings: Settings) -> dict[str, str]:
    """What the libraries read: where the servers are, how long to wait for them, how much to take."""
    paths = StatePaths(settings.state_dir)
    prefect = settings.url("prefect")
    return {
        "MLFLOW_TRACKING_URI": settings.url("mlflow"),
        # The defaults are 120 s and 7 retries: a process that starts while MLflow is down would hang for minutes.
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        # Otherwise eight extra worker processes (1.3 GB).
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_HOME": str(paths.prefect),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{paths.prefect / 'prefect.db'}",
        "PREFECT_UI_STATIC_DIRECTORY": str(paths.prefect / "ui"),
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{prefect},http://localhost:{settings.port('prefect')}",
        **_PREFECT_SERVER,
        "BENTOML_HOME": str(settings.state_dir / "serving" / "bentoml"),
        # Several processes share two cores: a thread pool in each of them would only add switching and memory.
        "OMP_NUM_THREADS": "2",
        # OpenBLAS starts its threads when it is loaded, and a fork would not have them.
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
        # What a long-lived process has taken for a moment goes back to the system, instead of staying with it.
        "MALLOC_MMAP_THRESHOLD_": "131072",
        "MALLOC_TRIM_THRESHOLD_": "131072",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        # Nobody allocates from pyarrow's and delta-rs's own allocators, whose threads a fork server must not have.
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
        "_RJEM_MALLOC_CONF": "background_thread:false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        # What the libraries deprecate is their business; a reader looks in the logs for ours.
        "PYTHONWARNINGS": "ignore::DeprecationWarning",
        # Logs are read while they grow.
        "PYTHONUNBUFFERED": "1",
    }


def _without_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """Our own servers are never behind the reader's proxy."""
    known = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    hosts = [*(host for host in known.split(",") if host), LOOPBACK, "localhost"]
    value = ",".join(dict.fromkeys(hosts))
    return {"NO_PROXY": value, "no_proxy": value}
