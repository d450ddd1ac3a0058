from __future__ import annotations

import re
from datetime import timedelta

import pytest
from prefect.settings.models.server.services import ServerServicesSettings

from reference_system.paths import PROJECT_ROOT
from reference_system.settings import Settings
from reference_system.stack.environment import TELEMETRY_SWITCHES, child_environment


def test_every_telemetry_switch_is_set_and_ci_is_not(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("DO_NOT_TRACK", "1")  # MLflow would ignore this spelling

    environment = child_environment(settings)

    assert environment.items() >= TELEMETRY_SWITCHES.items()
    assert TELEMETRY_SWITCHES["DO_NOT_TRACK"] == "true"
    assert "CI" not in environment


def test_compiled_modules_are_kept_whatever_the_reader_set(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    assert "PYTHONDONTWRITEBYTECODE" not in child_environment(settings)


def test_make_sets_the_same_switches_for_the_tests() -> None:
    text = (PROJECT_ROOT / "Makefile").read_text()

    exported = dict(re.findall(r"^export (\w+) := (\w+)$", text, re.MULTILINE))
    assert exported == TELEMETRY_SWITCHES
    assert re.search(r"^unexport CI$", text, re.MULTILINE)


def test_a_child_reads_the_settings_of_its_parent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in child_environment(settings).items():
        if name.startswith("WORKBOOK_"):
            monkeypatch.setenv(name, value)

    assert Settings(_env_file=None) == settings


def test_everything_a_library_writes_lies_under_the_state_directory(settings: Settings) -> None:
    environment = child_environment(settings)

    state = str(settings.state_dir)
    assert environment["PREFECT_HOME"].startswith(state)
    assert environment["PREFECT_UI_STATIC_DIRECTORY"].startswith(state)
    assert environment["BENTOML_HOME"].startswith(state)
    assert environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"].startswith(f"sqlite+aiosqlite:///{state}")


def test_a_process_that_starts_while_mlflow_is_down_gives_up_soon(settings: Settings) -> None:
    environment = child_environment(settings)

    seconds, retries = (int(environment[f"MLFLOW_HTTP_REQUEST_{name}"]) for name in ("TIMEOUT", "MAX_RETRIES"))
    assert seconds * (retries + 1) <= 10


def test_our_servers_are_not_asked_through_the_readers_proxy(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.delenv("no_proxy", raising=False)

    assert child_environment(settings)["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert child_environment(settings)["no_proxy"] == "example.org,127.0.0.1,localhost"


def test_only_a_process_of_a_service_carries_its_mark(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORKBOOK_SERVICE", raising=False)

    assert child_environment(settings, service="kafka")["WORKBOOK_SERVICE"] == "kafka"
    assert "WORKBOOK_SERVICE" not in child_environment(settings)


def test_prefect_reads_what_its_server_is_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in child_environment(settings).items():
        if name.startswith("PREFECT_SERVER_SERVICES_"):
            monkeypatch.setenv(name, value)

    services = ServerServicesSettings()
    running = {name for name in ServerServicesSettings.model_fields if getattr(services, name).enabled}
    assert running == {"cancellation_cleanup", "db_vacuum", "scheduler", "task_run_recorder"}
    assert services.scheduler.min_scheduled_time == timedelta(minutes=3)
    assert services.task_run_recorder.batch_size == 20
    assert "flow_runs" in services.db_vacuum.enabled_vacuum_types
    assert services.db_vacuum.retention_period == timedelta(days=1)
