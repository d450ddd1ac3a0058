"""One change at a time: `up`, `down` and `clean` of one state directory exclude one another.

In: a state directory and the verb. Out: a context in which no other of these verbs runs.
Invariant: the kernel holds the lock, so it dies with its holder; the file only says who that is, and is removed.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from reference_system.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_NAME = "lock"


@contextmanager
def one_at_a_time(state_dir: Path, verb: str) -> Iterator[None]:
    """Hold the lock of a state directory.

    Raises:
        StateError: somebody else holds it; the message says who.
    """
    path = state_dir / LOCK_NAME
    descriptor = _acquire(path)
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"`workbook {verb}` (pid {os.getpid()})".encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.parent.rmdir()  # a folder that held nothing but the lock goes with it
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 200).decode(errors="replace") or "another command"
            os.close(descriptor)
            raise StateError(f"{holder} is at work on {path.parent}; wait for it to end, or stop it") from error
        if _still_there(path, descriptor):
            return descriptor
        os.close(descriptor)  # its former holder removed the file between our open and our lock


def _still_there(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
