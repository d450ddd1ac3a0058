"""Small files that are replaced whole.

In: a path and its new content. Out: a file that any other process may be reading.
Invariant: a reader finds the old content or the new, never half of one; a writer that fails leaves the old.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from reference_system.errors import StateError

T = TypeVar("T")
_TOKEN_BYTES = 4


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; what is there at the end takes the place of `path`.

    For libraries that write files themselves. After an exception the draft is removed and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two writers at once must not share a draft; a leading dot hides it from whoever lists the folder.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN_BYTES)}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def drafts_of(path: Path) -> list[Path]:
    """The drafts of a file that lie beside it: those of writers at work, and of writers that were killed."""
    draft = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{{2 * _TOKEN_BYTES}}}")
    return [entry for entry in path.parent.iterdir() if draft.fullmatch(entry.name)]


def replace_file(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Give a file new content; `durable` ones are on the disk before they are found, whatever happens to the power."""
    with replacing(path) as draft, draft.open("xb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def read_record(path: Path, shape: type[T], *, next_command: str | None = None) -> T | None:
    """The JSON record that a file holds, or `None` if there is no file.

    Args:
        path: the file.
        shape: the msgspec type that this project wrote.
        next_command: what mends a file that cannot be read; by default its removal.

    Raises:
        StateError: if the file holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=shape)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise StateError(f"{path} cannot be read: {error}", next_command=next_command or f"rm {path}") from error
