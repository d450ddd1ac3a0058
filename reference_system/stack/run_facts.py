"""Where a measurement was made: without machine, commit and versions a figure says nothing.

In: this machine and the repository. Out: one record for a run file.
Invariant: a fact that cannot be had is absent, never guessed.
"""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

from reference_system.paths import PROJECT_ROOT

_GB = 1e9
_GIT_SECONDS = 10


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The computer, and how busy it was before."""

    system: str
    cpu: str | None
    cores: int | None
    memory_gb: float
    load_average: float  # processes that ran or waited to, mean of the last minute


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """The code; `dirty` if files differ from it."""

    id: str
    dirty: bool


class RunFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Machine, commit, versions."""

    machine: Machine
    commit: Commit | None
    versions: dict[str, str]


def run_facts(*packages: str) -> RunFacts:
    """The facts now, with the versions of Python and of these packages."""
    return RunFacts(
        machine=Machine(
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            cpu=cpu_model(),
            cores=psutil.cpu_count(),
            memory_gb=round(psutil.virtual_memory().total / _GB, 1),
            load_average=round(psutil.getloadavg()[0], 2),
        ),
        commit=commit_of(PROJECT_ROOT),
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
    )


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The processor's name, as Linux or macOS tells it."""
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text(encoding="utf-8").splitlines())
        return next((value.strip() for name, _, value in lines if name.strip() == "model name"), None)
    return _output(["sysctl", "-n", "machdep.cpu.brand_string"], PROJECT_ROOT)


def commit_of(folder: Path) -> Commit | None:
    """The commit checked out in the folder, or `None` outside of a repository."""
    found = _output(["git", "rev-parse", "HEAD"], folder)
    if not found:
        return None
    return Commit(id=found, dirty=bool(_output(["git", "--no-optional-locks", "status", "--porcelain"], folder)))


def _output(command: list[str], folder: Path) -> str | None:
    try:
        result = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
