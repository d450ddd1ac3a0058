"""Is this machine ready? One check a fact; each failure names the one command that mends it.

In: settings. Out: checks, in the order in which a person should look at them.
Invariant: a check changes nothing and never raises for what it looks at.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from reference_system.errors import SetupError, WorkbookError
from reference_system.paths import PROJECT_ROOT
from reference_system.settings import PORT_NAMES, Settings
from reference_system.stack.disk_use import disk_use
from reference_system.stack.environment import HIDES_LEAKS, TELEMETRY_SWITCHES
from reference_system.stack.ports import mend_ports, taken_ports
from reference_system.stack.processes import marked_processes
from reference_system.stack.supervisor.client import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PYTHON_FROM, PYTHON_BELOW = (3, 11), (3, 14)
ARCHITECTURES = ("x86_64", "amd64", "aarch64", "arm64")
# The whole system, resident (docs/performance.md).
NEEDED_MEMORY_GB = 3.0
# What the state comes to in the end, and what the world leaves free (docs/soak.md), beside the environment.
NEEDED_DISK_GB = 3.0
_GB = 1e9
_LOCK_CHECK_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCheck:
    """One fact about the machine. `mend` is a command for a shell, wherever `ok` is false."""

    name: str
    ok: bool
    detail: str
    mend: str | None = None


def machine_checks(settings: Settings) -> list[MachineCheck]:
    """Every check, run now."""
    running = Supervisor(settings).is_alive()
    checks: tuple[Callable[[], MachineCheck], ...] = (
        check_python,
        check_architecture,
        lambda: check_memory(running=running),
        lambda: check_disk(settings.state_dir, needed_gb=_needed_disk(settings, running=running)),
        lambda: check_ports(settings),
        check_lock,
        check_jars,
        check_java,
        lambda: check_telemetry(settings),
        lambda: check_stale_processes(settings, running=running),
    )
    return [check() for check in checks]


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> MachineCheck:
    """The interpreter is one that the locked packages have wheels for."""
    ok = PYTHON_FROM <= version < PYTHON_BELOW
    return MachineCheck(
        name="python",
        ok=ok,
        detail=f"{version[0]}.{version[1]} at {sys.executable}; 3.11, 3.12 and 3.13 work",
        mend=None if ok else "make up PYTHON=python3.12",
    )


def check_architecture(machine: str = platform.machine(), system: str = platform.system()) -> MachineCheck:
    """The Java runtime and the native wheels exist for this machine."""
    musl = system == "Linux" and platform.libc_ver()[0] != "glibc"
    ok = machine.lower() in ARCHITECTURES and system in ("Linux", "Darwin") and not musl
    return MachineCheck(
        name="architecture",
        ok=ok,
        detail=f"{system} on {machine}{' (musl)' if musl else ''}; Linux (glibc) and macOS, x86-64 or ARM, work",
        mend=None if ok else ("wsl --install" if system == "Windows" else "docker run -it python:3.12"),
    )


def check_memory(*, running: bool) -> MachineCheck:
    """The system fits in what is free (or runs already)."""
    free = psutil.virtual_memory().available / _GB
    ok = running or free >= NEEDED_MEMORY_GB
    return MachineCheck(
        name="memory",
        ok=ok,
        detail=f"{free:.1f} GB available; the system takes up to {NEEDED_MEMORY_GB:.0f} GB",
        mend=None if ok else "ps axo rss,pid,comm | sort -rn | head",
    )


def _needed_disk(settings: Settings, *, running: bool) -> float:
    """A system that runs has its state already: it needs what the world leaves free."""
    return settings.least_free_mb / 1_000 if running else NEEDED_DISK_GB


def check_disk(state_dir: Path, *, needed_gb: float = NEEDED_DISK_GB) -> MachineCheck:
    """There is room for the state, or for it to go on."""
    place = next(folder for folder in (state_dir, *state_dir.parents) if folder.exists())
    free = shutil.disk_usage(place).free / _GB
    ok = free >= needed_gb
    detail = f"{free:.1f} GB free at {place}; {needed_gb:g} GB are needed"
    if ok:
        return MachineCheck(name="disk", ok=True, detail=detail)
    held = disk_use(state_dir, least_free_mb=0)
    if not held.total_mb:
        return MachineCheck(
            name="disk", ok=False, detail=detail, mend="WORKBOOK_STATE_DIR=/path/on/a/larger/disk make up"
        )
    return MachineCheck(
        name="disk", ok=False, detail=f"{detail}; the state's largest: {held.largest}", mend="make clean"
    )


def require_disk(state_dir: Path) -> None:
    """Raise if the disk is too small to begin.

    Raises:
        SetupError: saying how much is free and where.
    """
    disk = check_disk(state_dir)
    if not disk.ok:
        raise SetupError(f"the disk is too small: {disk.detail}", next_command=disk.mend)


def check_ports(settings: Settings) -> MachineCheck:
    """Every port is free, or ours."""
    taken = taken_ports(settings)
    return MachineCheck(
        name="ports",
        ok=not taken,
        detail="; ".join(taken) if taken else f"all {len(PORT_NAMES)} are free or ours",
        mend=mend_ports(settings) if taken else None,
    )


def check_lock() -> MachineCheck:
    """`uv.lock` is what `pyproject.toml` asks for."""
    uv = PROJECT_ROOT / ".uv" / "bin" / "uv"
    if not uv.exists():
        return MachineCheck(name="lock", ok=False, detail=f"uv is not bootstrapped at {uv}", mend="make env")
    result = subprocess.run(
        [uv, "lock", "--check", "--offline", "--python", sys.executable, "--no-python-downloads"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=_LOCK_CHECK_SECONDS,
        check=False,
    )
    ok = result.returncode == 0
    said = result.stderr.strip().splitlines()
    return MachineCheck(
        name="lock",
        ok=ok,
        detail="uv.lock is what pyproject.toml asks for" if ok else (said[-1] if said else "uv.lock is out of date"),
        mend=None if ok else "git checkout uv.lock pyproject.toml",
    )


def check_jars() -> MachineCheck:
    """Kafka's jars are there and have the locked checksums."""
    from reference_system.stack.kafka.jars import read_lock, wrong_jars

    try:
        lock = read_lock()
        wrong = wrong_jars(lock)
    except (WorkbookError, OSError) as error:
        return MachineCheck(name="jars", ok=False, detail=str(error), mend="git checkout infra/kafka/jars.lock")
    detail = f"{len(lock.jar)} jars of Kafka {lock.kafka}"
    if wrong:
        detail += f"; {len(wrong)} missing or damaged, {wrong[0].file} first"
    return MachineCheck(name="jars", ok=not wrong, detail=detail, mend="make up" if wrong else None)


def check_java() -> MachineCheck:
    """The Java runtime starts."""
    from reference_system.stack.kafka.broker import java_version

    try:
        return MachineCheck(name="java", ok=True, detail=f"{java_version()} starts")
    except WorkbookError as error:
        return MachineCheck(name="java", ok=False, detail=str(error), mend="rm -rf .venv && make env")


def check_telemetry(settings: Settings) -> MachineCheck:
    """Every running process of ours has the switches on, and none of what hides a leak."""
    lacking = []
    processes = marked_processes(settings.state_dir)
    for process in processes:
        try:
            environment = psutil.Process(process.pid).environ()
        except psutil.Error:
            continue
        # BentoML writes its own switch anew for its workers, as `True`.
        wrong = [name for name, value in TELEMETRY_SWITCHES.items() if environment.get(name, "").lower() != value]
        wrong += [HIDES_LEAKS] if HIDES_LEAKS in environment else []
        lacking += [f"{process}: {name}" for name in wrong]
    switches = ", ".join(f"{name}={value}" for name, value in TELEMETRY_SWITCHES.items())
    return MachineCheck(
        name="telemetry",
        ok=not lacking,
        detail=f"wrong in {'; '.join(lacking)}" if lacking else f"{switches} in {len(processes)} running processes",
        mend="make down && make up" if lacking else None,
    )


def check_stale_processes(settings: Settings, *, running: bool) -> MachineCheck:
    """No process is left of a system whose supervisor is gone."""
    stale = [] if running else marked_processes(settings.state_dir)
    names = ", ".join(str(process) for process in stale)
    return MachineCheck(
        name="stale processes",
        ok=not stale,
        detail=f"left without a supervisor: {names}" if stale else "none",
        mend="make down" if stale else None,
    )
