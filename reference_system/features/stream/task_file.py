"""A task's file: SQLite, one transaction for each poll, one owner at a time.

In: what a poll amounts to. Out: what the file holds.
Invariant: a transaction happens whole or not at all. Whoever opens the file takes the next epoch; a transaction under
an older one is refused.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import msgspec

from reference_system.errors import StateError
from reference_system.features.stream.deduplication import Acceptance, Classification, Outcome, Seen
from reference_system.features.stream.forwarding import Channel
from reference_system.states import PostedRow, StateRow
from reference_system.windows import View

TASK_TABLES = """
CREATE TABLE position (topic TEXT PRIMARY KEY, next_offset INTEGER NOT NULL, newest INTEGER) WITHOUT ROWID;
CREATE TABLE taken (source INTEGER, topic TEXT, next_offset INTEGER NOT NULL, PRIMARY KEY (source, topic))
    WITHOUT ROWID;
CREATE TABLE seen (topic TEXT, event_id TEXT, offset INTEGER, time INTEGER, late INTEGER,
    PRIMARY KEY (topic, event_id, offset)) WITHOUT ROWID;
CREATE TABLE total (topic TEXT, outcome TEXT, events INTEGER NOT NULL, PRIMARY KEY (topic, outcome)) WITHOUT ROWID;
CREATE TABLE state (view TEXT, key TEXT, time INTEGER, sequence INTEGER, state BLOB, PRIMARY KEY (view, key));
CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, target INTEGER, record BLOB);
CREATE TABLE mark (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
# The offset that the ids of generated history have in `seen`.
HISTORY_OFFSET = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a file holds besides ids and states."""

    positions: dict[str, int]  # for each topic the next offset
    newest: dict[str, int | None]  # for each topic the newest moment known, microseconds
    taken: dict[Channel, int]
    totals: Counter[tuple[str, str]]
    outbox: list[PostedRow]
    pushed: int  # the sequence up to which the online store has the states
    base: int  # added to every sequence, so that none goes back when a file is built anew


class TaskFile:
    """The open file of one task."""

    def __init__(self, path: Path, task: int) -> None:
        """Open the file and take it over.

        Raises:
            StateError: if it cannot be read.
        """
        self._task = task
        try:
            self._db = open_task_file(path)
            self._db.execute("BEGIN IMMEDIATE")
            self._epoch = int(self._mark("epoch")) + 1
            self._db.execute("UPDATE mark SET value = ? WHERE name = 'epoch'", (self._epoch,))
            self._db.execute("COMMIT")
            self.held = self._read()
        except sqlite3.DatabaseError as error:
            # A file that somebody holds for too long is no broken file.
            mend = "workbook status" if error.sqlite_errorcode == sqlite3.SQLITE_BUSY else f"rm {path}"
            raise StateError(f"{path} cannot be read ({error})", next_command=mend) from error

    def close(self, *, pushed: int, sent: int) -> None:
        """Close the file; what was pushed and sent is remembered, unless another consumer has taken over."""
        with suppress(StateError), self.transaction():
            self.remember(pushed=pushed, sent=sent)
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; nobody else can take over meanwhile.

        Raises:
            StateError: if another consumer has taken over.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._check_epoch()
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def seen(self, topic: str, ids: Sequence[str]) -> Seen:
        """Where each of the ids was accepted."""
        query = (
            "SELECT event_id, offset, time, late FROM seen"
            " WHERE topic = ? AND event_id IN (SELECT value FROM json_each(?)) ORDER BY offset"
        )
        seen: Seen = {}
        for event_id, offset, time, late in self._db.execute(query, (topic, _json(ids))):
            seen.setdefault(event_id, []).append(Acceptance(offset, time, bool(late)))
        return seen

    def states(self, view: str, keys: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
        """(key, time, state) of each of the keys that has one."""
        query = "SELECT key, time, state FROM state WHERE view = ? AND key IN (SELECT value FROM json_each(?))"
        yield from self._db.execute(query, (view, _json(keys)))

    def unpushed(self, pushed: int) -> Iterator[tuple[str, StateRow]]:
        """(view, row) of each state that changed since that sequence."""
        query = "SELECT view, key, time, sequence, state FROM state WHERE sequence > ?"
        for view, key, time, sequence, state in self._db.execute(query, (pushed,)):
            yield view, (key, time, sequence, state)

    def write_classified(self, classified: Iterable[tuple[str, Classification]]) -> None:
        """Write the ids and totals of a poll."""
        for topic, classification in classified:
            self._db.executemany("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", classification.accepted)
            self._db.executemany(
                "INSERT INTO total VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events",
                [(topic, outcome, count) for outcome, count in classification.totals.items()],
            )

    def write_positions(self, moved: Iterable[tuple[str, int, int | None]], taken: Mapping[Channel, int]) -> None:
        """Write (topic, next offset, newest moment), and how far the rows of other tasks are taken."""
        self._db.executemany("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", moved)
        rows = [(*channel, offset) for channel, offset in taken.items()]
        self._db.executemany("INSERT OR REPLACE INTO taken VALUES (?, ?, ?)", rows)

    def write_states(self, changed: Mapping[str, Sequence[StateRow]]) -> None:
        """Write states by view."""
        self._db.executemany(
            "INSERT INTO state VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET time = excluded.time, sequence = excluded.sequence, state = excluded.state",
            ((view, *row) for view, rows in changed.items() for row in rows),
        )

    def post(self, target: int, record: bytes) -> PostedRow:
        """Put a record for another task into the outbox."""
        posted = self._db.execute("INSERT INTO outbox (target, record) VALUES (?, ?)", (target, record))
        return int(posted.lastrowid or 0), target, record

    def remember(self, *, pushed: int, sent: int) -> None:
        """Note what the online store has, and drop what the broker has from the outbox."""
        self._db.execute("UPDATE mark SET value = ? WHERE name = 'pushed'", (pushed,))
        self._db.execute("DELETE FROM outbox WHERE number <= ?", (sent,))

    def forget(self, topic: str, before: int) -> None:
        """Drop the topic's ids that arrived before that moment; reads them all."""
        self._db.execute("DELETE FROM seen WHERE topic = ? AND time < ?", (topic, before))

    def _read(self) -> Held:
        positions = self._db.execute("SELECT topic, next_offset, newest FROM position").fetchall()
        taken = self._db.execute("SELECT source, topic, next_offset FROM taken").fetchall()
        return Held(
            positions={topic: offset for topic, offset, _ in positions},
            newest={topic: newest for topic, _, newest in positions},
            taken={(source, topic): offset for source, topic, offset in taken},
            totals=Counter({(t, Outcome(o)): n for t, o, n in self._db.execute("SELECT * FROM total")}),
            outbox=self._db.execute("SELECT number, target, record FROM outbox ORDER BY number").fetchall(),
            pushed=int(self._mark("pushed")),
            base=int(self._mark("base")),
        )

    def _mark(self, name: str) -> str:
        return str(self._db.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()[0])

    def _check_epoch(self) -> None:
        if int(self._mark("epoch")) != self._epoch:
            raise StateError(f"another consumer took over task {self._task}", next_command="workbook status")


def forget_pushed(paths: Iterable[Path]) -> None:
    """Let every state of these files count as not yet pushed: the online store is gone. No consumer may run."""
    for path in paths:
        with closing(open_task_file(path)) as db:
            db.execute("UPDATE mark SET value = 0 WHERE name = 'pushed'")


def open_task_file(path: Path) -> sqlite3.Connection:
    """A connection without implicit transactions.

    A crash of the process loses nothing that was committed. A power cut may lose the last commits, whole: their
    offsets go with them, so they are read again.
    """
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA busy_timeout = 5000")
    # Checkpoints copy pages that changed often only once, if they come seldom: every 16 MiB.
    db.execute("PRAGMA wal_autocheckpoint = 4000")
    db.execute("PRAGMA cache_size = -8000")
    return db


def fingerprint(views: Sequence[View], tasks: int) -> str:
    """Changes with any declaration: states of other declarations must be built anew."""
    return sha256(repr((views, tasks)).encode()).hexdigest()


def _json(texts: Sequence[str]) -> str:
    return msgspec.json.encode(texts).decode()
