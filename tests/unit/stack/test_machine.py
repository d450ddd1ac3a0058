from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from reference_system.errors import SetupError
from reference_system.settings import Settings
from reference_system.stack import machine
from reference_system.stack.machine import (
    check_architecture,
    check_disk,
    check_java,
    check_memory,
    check_ports,
    check_python,
    check_stale_processes,
    check_telemetry,
    machine_checks,
    require_disk,
)
from reference_system.stack.processes import Marked


def test_every_fact_that_the_doctor_promises_is_checked(settings: Settings) -> None:
    checks = machine_checks(settings)

    names = [check.name for check in checks]
    assert names == [
        "python", "architecture", "memory", "disk", "ports", "lock", "jars", "java", "telemetry", "stale processes",
    ]  # fmt: skip
    assert all(check.detail and "\n" not in check.detail for check in checks)
    assert all(check.mend for check in checks if not check.ok)
    assert all(check.mend is None for check in checks if check.ok)


@pytest.mark.parametrize(
    ("version", "ok"), [((3, 10), False), ((3, 11), True), ((3, 12), True), ((3, 13), True), ((3, 14), False)]
)
def test_the_pythons_that_work(version: tuple[int, int], *, ok: bool) -> None:
    assert check_python(version).ok is ok


@pytest.mark.parametrize(
    ("system", "architecture", "ok"),
    [
        ("Darwin", "arm64", True),
        ("Darwin", "x86_64", True),
        ("Windows", "AMD64", False),
        ("Linux", "riscv64", False),
    ],
)
def test_the_machines_that_work(system: str, architecture: str, *, ok: bool) -> None:
    assert check_architecture(architecture, system).ok is ok


def test_a_taken_port_is_a_failure_that_names_the_process(settings: Settings) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", settings.port("kafka")))
        listener.listen()
        check = check_ports(settings)

    assert not check.ok
    assert f"port {settings.port('kafka')} (kafka) is held by" in check.detail
    assert check_ports(settings).ok


def test_a_full_disk_stops_the_bring_up_before_anything_is_made(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage._replace(free=400_000_000))

    with pytest.raises(SetupError, match=r"the disk is too small: 0\.4 GB free"):
        require_disk(settings.state_dir)
    assert not settings.state_dir.exists()


def test_the_disk_of_a_folder_that_does_not_exist_yet_is_its_parents(tmp_path: Path) -> None:
    assert f"free at {tmp_path};" in check_disk(tmp_path / "not" / "yet").detail


def test_short_memory_is_no_failure_of_a_system_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type("Memory", (), {"available": 1_000_000_000})()
    monkeypatch.setattr(machine.psutil, "virtual_memory", lambda: memory)

    assert not check_memory(running=False).ok
    assert check_memory(running=True).ok


def test_java_starts() -> None:
    assert check_java().ok


def test_processes_without_a_supervisor_are_stale(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "marked_processes", lambda _: [Marked(4711, "kafka")])

    check = check_stale_processes(settings, running=False)

    assert check.detail == "left without a supervisor: kafka (pid 4711)"
    assert check.mend == "make down"
    assert check_stale_processes(settings, running=True).ok


def test_a_running_process_with_a_wrong_switch_is_found(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    process = type(
        "Process", (), {"environ": lambda _: machine.TELEMETRY_SWITCHES | {"DO_NOT_TRACK": "1", "CI": "true"}}
    )()
    monkeypatch.setattr(machine, "marked_processes", lambda _: [Marked(4711, "mlflow")])
    monkeypatch.setattr(machine.psutil, "Process", lambda _: process)

    check = check_telemetry(settings)

    assert not check.ok
    assert check.detail == "wrong in mlflow (pid 4711): DO_NOT_TRACK; mlflow (pid 4711): CI"
