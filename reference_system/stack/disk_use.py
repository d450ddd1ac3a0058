"""The disk: what the state takes, how it grows, and whether there is room to go on.

In: the state directory. Out: sizes by part, growth in simulated time, a line where there is no room.
Invariant: looking costs milliseconds and changes nothing. The world stands still before a write can fail, not after.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from reference_system.paths import StatePaths
from reference_system.replaced_files import replace_file

MB = 1_000_000
MONTH = timedelta(days=30)
_BLOCK = 512  # what `st_blocks` counts in, whatever the file system's own are
# So many sizes are remembered: two months at one ETL in two days.
_REMEMBERED = 30
# Less than this says more about one training than about growth.
_LEAST_SPAN = timedelta(days=4)
# Back to normal with so much more than the least, lest the world stops and goes with every file.
_AIR = 1.1


class Usage(NamedTuple):
    """Of a file system, in bytes; as `shutil.disk_usage` gives it."""

    total: int
    used: int
    free: int


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """What the whole state took at a moment of event time."""

    moment: datetime
    bytes: int


class DiskUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the state takes and what is left.

    `parts` are MB by the folder's name, the largest first; `month_mb` is the growth in a simulated month, where enough
    of it was seen; `problem` says why the world stands still, where it does.
    """

    parts: Mapping[str, float]
    files: int
    free_mb: float
    month_mb: float | None = None
    problem: str | None = None

    @property
    def total_mb(self) -> float:
        """The whole state."""
        return sum(self.parts.values())

    @property
    def largest(self) -> str:
        """The three largest parts, in words."""
        return ", ".join(f"{name} {size:,.0f} MB" for name, size in list(self.parts.items())[:3])


FreeSpace = Callable[[Path], Usage]


def usage_of(place: Path) -> Usage:
    """The file system of a folder, or of the first of its parents that is there."""
    return Usage(*shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())))


def disk_use(state_dir: Path, *, least_free_mb: int) -> DiskUse:
    """Look at everything once."""
    sizes, files = sizes_of(state_dir)
    return DiskUse(
        parts={name: round(size / MB, 1) for name, size in sorted(sizes.items(), key=lambda part: -part[1])},
        files=files,
        free_mb=round(usage_of(state_dir).free / MB, 1),
        month_mb=growth(state_dir),
        problem=lack_of_room(state_dir, least_free_mb=least_free_mb),
    )


def sizes_of(state_dir: Path) -> tuple[dict[str, int], int]:
    """Bytes on the disk by what lies in the state directory, and how many files that are; links are not followed."""
    sizes: dict[str, int] = {}
    files = 0
    for entry in os.scandir(state_dir) if state_dir.is_dir() else ():
        size, count = _size(entry)
        sizes[entry.name] = size
        files += count
    return sizes, files


def _size(entry: os.DirEntry[str]) -> tuple[int, int]:
    """A running system removes files while we look: what is gone takes nothing."""
    try:
        if not entry.is_dir(follow_symlinks=False):
            # Blocks, not lengths: Kafka's indexes are files with holes.
            return entry.stat(follow_symlinks=False).st_blocks * _BLOCK, 1
        below = [_size(each) for each in os.scandir(entry.path)]
    except FileNotFoundError:
        return 0, 0
    return sum(size for size, _ in below), sum(count for _, count in below)


def remember_size(state_dir: Path, moment: datetime) -> None:
    """Note what the state takes now, for `growth`."""
    sizes, _ = sizes_of(state_dir)
    sizes_until_now = [size for size in _remembered(state_dir) if size.moment < moment]
    noted = [*sizes_until_now, Size(moment=moment, bytes=sum(sizes.values()))][-_REMEMBERED:]
    replace_file(StatePaths(state_dir).disk_sizes, msgspec.json.encode(noted))


def growth(state_dir: Path) -> float | None:
    """MB in a simulated month, by the sizes of the last one; `None` where too little was seen."""
    noted = _remembered(state_dir)
    recent = [size for size in noted if size.moment >= noted[-1].moment - MONTH]
    if not recent or recent[-1].moment - recent[0].moment < _LEAST_SPAN:
        return None
    return (recent[-1].bytes - recent[0].bytes) / MB * (MONTH / (recent[-1].moment - recent[0].moment))


def _remembered(state_dir: Path) -> list[Size]:
    path = StatePaths(state_dir).disk_sizes
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Size])
    except (FileNotFoundError, msgspec.MsgspecError):  # figures for people: begun anew
        return []


def lack_of_room(
    state_dir: Path, *, least_free_mb: int, stands: bool = False, usage: FreeSpace = usage_of
) -> str | None:
    """Why there is no room to go on, or `None` where there is.

    Args:
        state_dir: where is written.
        least_free_mb: what must be free.
        stands: whether the world stands already; then it takes a tenth more to go on.
        usage: how full a folder's disk is.
    """
    free = usage(state_dir).free / MB
    if free >= least_free_mb * (_AIR if stands else 1.0):
        return None
    return (
        f"the disk of {state_dir} has {free:,.0f} MB free and {least_free_mb:,} MB must be (WORKBOOK_LEAST_FREE_MB):"
        " the world stands still until there is room"
    )
