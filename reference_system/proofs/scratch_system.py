"""A temporary system for one proof, with a separate state directory, port block and broker.

In: the settings of the live system and a name. Out: a real broker with every topic, in `<state_dir>/scratch/`.
Invariant: the live system is never touched. When the context ends, also by an exception, no process and no file of
the scratch system is left; after a kill the next scratch system removes both.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.proofs.broker_process import BrokerProcess, free_port_offset
from reference_system.settings import Settings
from reference_system.stack.kafka.topics import ensure_topics
from reference_system.stack.locks import LOCK_NAME, one_at_a_time
from reference_system.stack.processes import marked_processes, stop_processes
from reference_system.use_cases import BROKER_TOPICS

# A scratch broker holds little data for a short time; several may run next to a live system.
_HEAP_MB = 256
_INSIST_SECONDS = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratch:
    """A scratch system: its settings and its broker."""

    settings: Settings
    broker: BrokerProcess

    @property
    def paths(self) -> StatePaths:
        """The paths in its state directory."""
        return StatePaths(self.settings.state_dir)


@contextmanager
def scratch_system(settings: Settings, name: str) -> Iterator[Scratch]:
    """A broker with every topic on free ports, and an empty state directory under `<state_dir>/scratch/`.

    Args:
        settings: those of the live system; folder, ports and the broker's heap are replaced.
        name: the purpose; prefix of the folder's name.
    """
    with terminated_politely() as unwound, scratch_folder(StatePaths(settings.state_dir).scratch, name) as root:
        ours = scratch_settings(settings, root)
        try:
            with BrokerProcess(ours) as broker:
                ensure_topics(ours.kafka_bootstrap, BROKER_TOPICS, ours.kafka_partitions)
                yield Scratch(settings=ours, broker=broker)
        finally:
            unwound.set()


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A new folder under `parent` whose name begins with `name`; folders of killed owners are removed."""
    remove_leftovers(parent)
    root = parent / f"{name}-{secrets.token_hex(4)}"
    with one_at_a_time(root, f"{name} in {root.name}"):
        root.chmod(0o700)
        try:
            yield root
        finally:
            _remove(root)


def scratch_settings(settings: Settings, root: Path) -> Settings:
    """The same settings with this folder, a block of free ports and a small broker."""
    elsewhere = {"state_dir": root, "port_offset": free_port_offset(settings), "kafka_heap_mb": _HEAP_MB}
    return Settings.model_validate(settings.model_dump() | elsewhere)


def remove_leftovers(folder: Path) -> list[str]:
    """Remove the scratch systems under `folder` whose owner was killed; returns their names."""
    removed = []
    for root in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            with one_at_a_time(root, "clean"):
                _remove(root)
        except StateError:  # its owner is alive
            continue
        removed.append(root.name)
    return removed


def _remove(root: Path) -> None:
    """Stop the processes of a folder and delete its content; the lock file stays until it is released."""
    # A complete system uses a subfolder (`proofs/soak/soak.py`).
    stop_processes([*marked_processes(root), *marked_processes(root / "state")])
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            # A process that was just stopped may still have been writing.
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK_NAME:
            entry.unlink(missing_ok=True)


@contextmanager
def terminated_politely() -> Iterator[threading.Event]:
    """Make SIGTERM unwind the stack as Ctrl-C does, so that everything is removed; by default Python exits at once.

    The signal is repeated every few seconds until the event is set: an exception that is raised in a destructor or in
    a library's callback is lost.
    """
    unwound = threading.Event()
    main = threading.main_thread()

    def insist() -> None:
        while not unwound.wait(_INSIST_SECONDS):
            signal.pthread_kill(cast("int", main.ident), signal.SIGTERM)

    insisting = threading.Thread(target=insist, daemon=True)

    def end(number: int, _: object) -> None:
        if not insisting.ident:
            insisting.start()
        raise SystemExit(128 + number)

    is_ours = threading.current_thread() is main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_ours:
        signal.signal(signal.SIGTERM, end)
    try:
        yield unwound
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
