"""Compares the tasks' states with the recount, and the online store with the tasks' states.

In: expected states, task files, the online store. Out: how many are equal, and the names of those that differ.
Invariant: equal means equal bytes and equal times. A value of the online store that differs is in flight only if its
task has recorded it as not pushed, or if both agree when they are read again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec

from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.events import EARLIEST
from reference_system.features.stream.snapshot import task_file, task_files
from reference_system.paths import StatePaths
from reference_system.proofs.ledger.report import LedgerProblem, problem
from reference_system.use_cases import VIEWS
from reference_system.windows import RecentItems, View, WindowedView, unpack_tail

_REBUILD = "workbook state rebuild"
_CHUNK = 400
# A running consumer pushes changed states several times a second.
_PUSH_SECONDS = 5.0
_LOOK_SECONDS = 0.2

# Entity key, time in microseconds, state.
ExpectedState = tuple[str, int, bytes]
# Values of the online store for some keys of a view, with their times.
ReadStoredStates = Callable[[View, Sequence[str]], list[tuple[bytes | None, int | None]]]
# (task, view's name, key)
StateName = tuple[int, str, str]


@dataclass(slots=True)
class StateComparison:
    """A view's states compared with the recount."""

    compared: int = 0
    different: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    aged: int = 0  # of days that the lake dropped

    def add(self, other: StateComparison) -> None:
        """Add another comparison."""
        self.compared += other.compared
        self.different += other.different
        self.missing += other.missing
        self.extra += other.extra
        self.aged += other.aged

    def problems(self, view: str) -> list[LedgerProblem]:
        """The differences by kind."""
        return [
            *problem("states that differ from the recount", view, self.different, then=_REBUILD),
            *problem("states that the recount has and no task", view, self.missing, then=_REBUILD),
            *problem("states that a task has and not the recount", view, self.extra, then=_REBUILD),
        ]


def compare_view(
    path: Path, view: View, expected: Sequence[ExpectedState], *, kept_from: int = micros(EARLIEST)
) -> StateComparison:
    """Compare a task's states of a view with the expected ones, which are ordered by key.

    A state with rows from before `kept_from` (microseconds) is not compared: the lake has dropped them.
    """
    found = StateComparison()
    with closing(sqlite3.connect(path)) as db:
        stored: Iterator[ExpectedState] = db.execute(
            "SELECT key, time, state FROM state WHERE view = ? ORDER BY key", (view.name,)
        )
        wanted = iter(expected)
        mine, due = next(stored, None), next(wanted, None)
        while mine is not None or due is not None:
            if mine is not None and _is_aged(view, mine[2], kept_from):
                found.aged += 1
                due = next(wanted, None) if due is not None and due[0] == mine[0] else due
                mine = next(stored, None)
            elif due is None or (mine is not None and mine[0].encode() < due[0].encode()):
                found.extra.append(mine[0] if mine else "")
                mine = next(stored, None)
            elif mine is None or due[0].encode() < mine[0].encode():
                found.missing.append(due[0])
                due = next(wanted, None)
            else:
                found.compared += 1
                if mine != due:
                    found.different.append(_difference(view, mine, due))
                mine, due = next(stored, None), next(wanted, None)
    return found


def _is_aged(view: View, state: bytes, kept_from: int) -> bool:
    """Whether the state has, or had, rows from before the first time that the lake keeps."""
    if kept_from == micros(EARLIEST):
        return False
    if isinstance(view, WindowedView):
        # A state keeps the horizon and one day before its newest row; a tile's row has the time of the tile's end.
        reach = view.horizon_micros + MICROS_PER_DAY + view.tile_micros
        try:
            return bool(unpack_tail(view, state).times[-1] - reach < kept_from)
        except ValueError:
            return False
    if isinstance(view, RecentItems):
        return min(time for time, _ in msgspec.msgpack.decode(state, type=list[tuple[int, str]])) < kept_from
    return False


def _difference(view: View, mine: ExpectedState, due: ExpectedState) -> str:
    """The key with a short description of the difference."""
    if mine[2] == due[2]:
        return f"{mine[0]} (time {mine[1]}, recount {due[1]})"
    if isinstance(view, WindowedView):
        try:
            rows = len(unpack_tail(view, mine[2]).times)
        except ValueError:
            return f"{mine[0]} (bytes that are no rows)"
        return f"{mine[0]} ({rows} rows, recount {len(unpack_tail(view, due[2]).times)})"
    return mine[0]


@dataclass(slots=True)
class OnlineComparison:
    """The online store compared with the tasks' states."""

    compared: int = 0
    in_flight: int = 0
    different: list[StateName] = field(default_factory=list)

    def problems(self) -> list[LedgerProblem]:
        """The differences by view."""
        by_view: dict[str, list[str]] = {}
        for _, view, key in self.different:
            by_view.setdefault(view, []).append(key)
        kind = "values of the online store that are not the state's"
        return [each for view, keys in by_view.items() for each in problem(kind, view, keys, then=_REBUILD)]


def compare_online(paths: StatePaths, copies: Path) -> OnlineComparison:
    """Compare every state of the copied task files with the online store, if there is one."""
    found = OnlineComparison()
    if not (paths.online_store.exists() and paths.feast_registry.exists()):
        return found
    from reference_system.features.feast.store import open_store, read_states

    read: ReadStoredStates = partial(read_states, open_store(paths))
    pending: list[StateName] = []
    for task, path in task_files(copies).items():
        with closing(sqlite3.connect(path)) as db:
            for view in VIEWS:
                rows = db.execute("SELECT key, time, state FROM state WHERE view = ?", (view.name,))
                while chunk := list(islice(rows, _CHUNK)):
                    values = read(view, [key for key, _, _ in chunk])
                    found.compared += len(chunk)
                    pending += [
                        (task, view.name, key)
                        for (key, at, state), value in zip(chunk, values, strict=True)
                        if value != (state, at)
                    ]
    left = _look_again(read, paths, pending)
    unpushed = _unpushed(paths, left)
    found.different = [name for name in left if name not in unpushed]
    found.in_flight = len(pending) - len(found.different)
    return found


def _look_again(read: ReadStoredStates, paths: StatePaths, pending: list[StateName]) -> list[StateName]:
    """The states that still differ after state and store are read together several times."""
    views = {view.name: view for view in VIEWS}
    deadline = time.monotonic() + _PUSH_SECONDS
    while pending:
        before = _live_states(paths, pending)
        values = {name: read(views[name[1]], [name[2]])[0] for name in pending}
        after = _live_states(paths, pending)
        pending = [name for name in pending if values[name] not in (before.get(name), after.get(name))]
        if time.monotonic() >= deadline:
            break
        if pending:
            time.sleep(_LOOK_SECONDS)
    return pending


def _live_states(paths: StatePaths, names: Sequence[StateName]) -> dict[StateName, tuple[bytes, int]]:
    found: dict[StateName, tuple[bytes, int]] = {}
    for task in {task for task, _, _ in names}:
        with closing(sqlite3.connect(f"file:{task_file(paths.stream_tasks, task)}?mode=ro", uri=True)) as db:
            for name in (name for name in names if name[0] == task):
                row = db.execute("SELECT state, time FROM state WHERE view = ? AND key = ?", name[1:]).fetchone()
                if row is not None:
                    found[name] = row
    return found


def _unpushed(paths: StatePaths, names: Sequence[StateName]) -> set[StateName]:
    """The states that their task has recorded as not pushed; its next start pushes them first."""
    found = set()
    for task in {task for task, _, _ in names}:
        with closing(sqlite3.connect(f"file:{task_file(paths.stream_tasks, task)}?mode=ro", uri=True)) as db:
            query = "SELECT 1 FROM state, mark WHERE view = ? AND key = ? AND name = 'pushed' AND sequence > value"
            found |= {name for name in names if name[0] == task and db.execute(query, name[1:]).fetchone()}
    return found
