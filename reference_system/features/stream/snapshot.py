"""What task files hold, read beside a running consumer.

In: the folder of the task files. Out: positions, totals and states of each task, and one digest over all.
Invariant: a task is read in one transaction, so what comes out was true at one moment; the digest is that of what
was consumed and what it amounts to, not of how it came about (who consumed it, in which polls, after which crashes).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from hashlib import blake2b
from pathlib import Path

import msgspec

from reference_system.errors import StateError
from reference_system.events import REPARTITION_TOPIC
from reference_system.features.stream.forwarding import Channel


class TaskSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One task at one moment."""

    task: int
    epoch: int
    positions: dict[str, int]  # the next offset of each topic's partition, without the repartition topic
    taken: dict[Channel, int]  # how far the rows of other tasks were taken
    totals: dict[tuple[str, str], int]  # (topic, outcome) → events
    states: list[tuple[str, str, int, bytes]]  # (view, key, time in microseconds, state), in order


def task_file(folder: Path, task: int) -> Path:
    """Where a task's state is."""
    return folder / f"task-{task}.sqlite"


def task_files(folder: Path) -> dict[int, Path]:
    """The task files that exist, by task."""
    found = {int(path.stem.removeprefix("task-")): path for path in folder.glob("task-*.sqlite")}
    return dict(sorted(found.items()))


def snapshot(path: Path, *, with_states: bool = True) -> TaskSnapshot:
    """Read a task file.

    Raises:
        StateError: if it cannot be read.
    """
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as db:
            db.execute("PRAGMA busy_timeout = 5000")
            db.execute("BEGIN")
            positions = dict(db.execute("SELECT topic, next_offset FROM position").fetchall())
            positions.pop(REPARTITION_TOPIC, None)
            taken = {(source, topic): n for source, topic, n in db.execute("SELECT * FROM taken")}
            totals = {(topic, outcome): n for topic, outcome, n in db.execute("SELECT * FROM total")}
            query = "SELECT view, key, time, state FROM state ORDER BY view, key"
            states = db.execute(query).fetchall() if with_states else []
            (epoch,) = db.execute("SELECT value FROM mark WHERE name = 'epoch'").fetchone()
    except sqlite3.DatabaseError as error:
        raise StateError(f"{path} cannot be read ({error})", next_command=f"rm {path}") from error
    return TaskSnapshot(
        task=int(path.stem.removeprefix("task-")),
        epoch=epoch,
        positions=positions,
        taken=taken,
        totals=totals,
        states=states,
    )


def snapshots(folder: Path, *, with_states: bool = True) -> list[TaskSnapshot]:
    """Every task's snapshot, in their order.

    Raises:
        StateError: if there is none.
    """
    found = [snapshot(path, with_states=with_states) for path in task_files(folder).values()]
    if not found:
        raise StateError(f"there is no stream state in {folder}", next_command="make up")
    return found


def digest(tasks: Iterable[TaskSnapshot]) -> str:
    """A fingerprint of positions, totals and states, to the byte."""
    hasher = blake2b(digest_size=16)
    for task in tasks:
        for part in (sorted(task.positions.items()), sorted((*key, n) for key, n in task.totals.items() if n)):
            hasher.update(msgspec.msgpack.encode((task.task, part)))
        for row in task.states:
            hasher.update(msgspec.msgpack.encode(row))
    return hasher.hexdigest()
