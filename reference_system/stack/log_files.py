"""Log files: one for each service, one for each bring-up step, one for the supervisor itself."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from reference_system.errors import StateError
from reference_system.paths import StatePaths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from reference_system.settings import Settings

_POLL_SECONDS = 0.3
_BLOCK = 64 * 1024


def log_path(settings: Settings, name: str) -> Path:
    """The log called `name`.

    Raises:
        StateError: there is no such log; the message lists those that exist.
    """
    folder = StatePaths(settings.state_dir).logs
    known = sorted(path.stem for path in folder.glob("*.log"))
    if name not in known:
        there_are = f"there are {', '.join(known)}" if known else "there are none yet"
        raise StateError(f"there is no log called {name!r} ({there_are})", next_command="workbook status")
    return folder / f"{name}.log"


def tail(path: Path, lines: int) -> list[str]:
    """The last lines; none if there is no file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            text = b""
            while end > 0 and text.count(b"\n") <= lines:
                start = max(0, end - _BLOCK)
                file.seek(start)
                text = file.read(end - start) + text
                end = start
    except FileNotFoundError:
        return []
    return text.decode("utf-8", errors="replace").splitlines()[-lines:] if lines else []


def follow(path: Path) -> Iterator[str]:
    """Text as it is appended, for ever; goes on with the new file when the log is rotated."""
    position = path.stat().st_size
    while True:
        size = path.stat().st_size if path.exists() else 0
        if size < position:
            position = 0
        if size > position:
            with path.open("rb") as file:
                file.seek(position)
                data = file.read(size - position)
            position += len(data)
            yield data.decode("utf-8", errors="replace")
        else:
            time.sleep(_POLL_SECONDS)
