"""The state directory: made, recognised, measured, removed.

In: settings. Out: a private folder whose `state.json` says which world its history was generated for.
Invariant: nothing is removed that this system did not write, and no symbolic link is followed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.replaced_files import drafts_of, replace_file
from reference_system.settings import ENV_PREFIX
from reference_system.stack.locks import LOCK_NAME

if TYPE_CHECKING:
    from reference_system.settings import Settings

STATE_FILE, DONE_FOLDER = "state.json", "done"
_MB = 1_000_000

# With another value of any of these, the history on disk and the world that goes on from it would disagree.
WORLD_SETTINGS = ("seed", "history_start", "history_days", "customers", "terminals", "viewers", "videos")


class WorldSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the history in a state directory was generated with."""

    values: dict[str, str]


def prepare_state_dir(settings: Settings) -> None:
    """Make the folder, mode 0700, and write or compare `state.json`.

    Raises:
        StateError: the folder holds something else, or the history of another world.
    """
    root = settings.state_dir
    refuse_foreign(root)
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    root.chmod(0o700)
    wanted = {name: str(getattr(settings, name)) for name in WORLD_SETTINGS}
    path = root / STATE_FILE
    if not path.exists():
        replace_file(path, msgspec.json.encode(WorldSettings(values=wanted)))
        return
    try:
        found = msgspec.json.decode(path.read_bytes(), type=WorldSettings).values
    except msgspec.MsgspecError as error:
        raise StateError(f"{path} cannot be read: {error}", next_command="make clean") from error
    for name, value in wanted.items():
        if found.get(name) != value:
            raise StateError(
                f"the history in {root} was generated with {name}={found.get(name)}, "
                f"the settings say {value}: set {ENV_PREFIX}{name.upper()} back, or begin anew",
                next_command="make clean",
            )


def is_done(settings: Settings, step: str) -> bool:
    """Whether a bring-up step has ever been completed here."""
    return (settings.state_dir / DONE_FOLDER / step).exists()


def mark_done(settings: Settings, step: str) -> None:
    """Remember that a step is complete. An empty file: it is there or it is not."""
    folder = settings.state_dir / DONE_FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    (folder / step).touch(mode=0o600)


def forget_done(settings: Settings, step: str) -> None:
    """The step is to be done again: what it made is gone."""
    (settings.state_dir / DONE_FOLDER / step).unlink(missing_ok=True)


def remove_state_dir(root: Path) -> float:
    """Remove what this system wrote; returns how many MB that was.

    Raises:
        StateError: the folder is a link, or holds something that is not ours.
    """
    refuse_foreign(root)
    if not root.exists():
        return 0.0
    size = sum(
        entry.lstat().st_size
        for folder, _, files in os.walk(root, followlinks=False)
        for entry in (Path(folder) / file for file in files)
    )
    # `state.json` goes last: a removal that is interrupted leaves a folder that can be removed again.
    for entry in sorted(root.iterdir(), key=lambda path: path.name == STATE_FILE):
        if entry.name == LOCK_NAME:
            continue  # held by the caller, who removes it
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    return size / _MB


def refuse_foreign(root: Path) -> None:
    """Raise unless `root` is missing, empty, or a folder that holds only what this system writes."""
    if root.is_symlink():
        raise StateError(
            f"{root} is a symbolic link to {root.resolve()}; set {ENV_PREFIX}STATE_DIR to the folder itself"
        )
    if not root.exists():
        return
    if not root.is_dir():
        raise StateError(f"{root} is a file; set {ENV_PREFIX}STATE_DIR to a folder of its own")
    drafts = {draft.name for draft in drafts_of(root / STATE_FILE)}
    foreign = sorted({entry.name for entry in root.iterdir()} - own_names() - drafts)
    if foreign:
        raise StateError(
            f"{root} holds {foreign[0]!r}, which this system did not write; "
            f"set {ENV_PREFIX}STATE_DIR to a folder of its own"
        )


def own_names() -> frozenset[str]:
    """The names that may lie in a state directory: where each path of `StatePaths` begins, and ours."""
    root = Path()
    paths = StatePaths(root)
    names = {getattr(paths, name).parts[0] for name, value in vars(StatePaths).items() if isinstance(value, property)}
    return frozenset(names | {STATE_FILE, DONE_FOLDER, LOCK_NAME})
