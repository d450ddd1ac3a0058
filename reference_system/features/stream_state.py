"""The stream's state: what has been consumed and what it amounts to, in one SQLite file.

In: the arrivals of one poll, in the order of each partition. Out: which of them are new facts; states to push.
Invariant: one transaction holds a poll's offsets, event ids, totals and states, so after a crash either all of the
poll happened or none of it; arrivals that were applied before change nothing. A second writer is refused, because
the offsets it believes in are no longer there.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from reference_system.errors import StateError
from reference_system.features.stream_folds import Additions, add_event, fold, topics_of
from reference_system.features.stream_verdicts import HISTORY, HORIZON_MICROS, Arrival, Batch, Place, Seen
from reference_system.windows import View

SCHEMA = """
CREATE TABLE position (topic TEXT, partition INTEGER, next_offset INTEGER NOT NULL, newest INTEGER,
    PRIMARY KEY (topic, partition)) WITHOUT ROWID;
CREATE TABLE seen (topic TEXT, event_id TEXT, partition INTEGER, offset INTEGER, arrived INTEGER,
    PRIMARY KEY (topic, event_id, partition, offset)) WITHOUT ROWID;
CREATE INDEX seen_by_arrival ON seen (topic, partition, arrived);
CREATE TABLE total (topic TEXT, outcome TEXT, events INTEGER NOT NULL, PRIMARY KEY (topic, outcome)) WITHOUT ROWID;
CREATE TABLE state (view TEXT, key TEXT, time INTEGER, revision INTEGER, state BLOB, PRIMARY KEY (view, key));
CREATE TABLE mark (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""

StateRow = tuple[str, int, bytes]


class StreamState:
    """The open state file; `stream_rebuild.rebuild` makes one."""

    def __init__(self, path: Path, views: Sequence[View]) -> None:
        """Open the file.

        Raises:
            StateError: if it cannot be read.
        """
        self._views = {view.name: view for view in views}
        topics = {topic for view in views for topic in topics_of(view)}
        self._views_of = {topic: [view for view in views if topic in topics_of(view)] for topic in topics}
        try:
            self._db = connect(path)
            positions = self._db.execute("SELECT topic, partition, next_offset, newest FROM position").fetchall()
            self._totals = Counter({(t, o): n for t, o, n in self._db.execute("SELECT * FROM total")})
            self._pushed = int(self._mark("pushed"))
            self._unpushed = self._read_unpushed()
            highest = self._db.execute("SELECT max(revision) FROM state").fetchone()[0]
            # Polls that changed no state were numbered too.
            self._revision = max(self._pushed, highest or 0)
        except sqlite3.DatabaseError as error:
            raise StateError(f"{path} cannot be read ({error})", next_command=f"rm {path}") from error
        self._next = {(topic, partition): offset for topic, partition, offset, _ in positions if partition != HISTORY}
        self._newest = {(topic, partition): newest for topic, partition, _, newest in positions if newest is not None}

    def close(self) -> None:
        """Close the file; what was pushed is remembered."""
        self._db.execute("UPDATE mark SET value = ? WHERE name = 'pushed'", (self._pushed,))
        self._db.close()

    def next_offsets(self) -> dict[Place, int]:
        """For each partition that was ever read the first offset that was not."""
        return dict(self._next)

    def totals(self) -> dict[tuple[str, str], int]:
        """How many events of each topic had each outcome, ever."""
        return dict(self._totals)

    def apply(self, arrivals: Sequence[Arrival]) -> list[bool]:
        """Apply a poll in one transaction.

        Returns:
            For each arrival whether it is the first of its event and so belongs in the lake. For arrivals that were
            applied before, the answer is the same as then.

        Raises:
            StateError: if another process has moved the offsets meanwhile.
        """
        batch = Batch(next_offsets=dict(self._next), newest=dict(self._newest), seen=self._seen(arrivals))
        first = [batch.judge(arrival) for arrival in arrivals]
        changed = self._fold(batch)
        with self._transaction():
            self._write(batch, changed)
        self._next, self._newest = batch.next_offsets, batch.newest
        self._totals.update(batch.totals)
        self._revision += 1
        for view, rows in changed.items():
            self._unpushed.setdefault(view, {}).update((row[0], row) for row in rows)
        return first

    def unpushed(self) -> list[tuple[View, list[StateRow]]]:
        """The states that the online store does not have yet, as (key, time in microseconds, bytes) by view."""
        return [(self._views[view], list(rows.values())) for view, rows in self._unpushed.items() if rows]

    def mark_pushed(self) -> None:
        """Note that the online store has them all; durable with the next poll: pushing twice does no harm."""
        self._pushed = self._revision
        self._unpushed = {}

    def forget(self, topic: str) -> None:
        """Drop the topic's ids that are beyond the horizon.

        Call it when the lake holds all that was applied: until then a restart needs the ids to tell which arrival
        was the first.
        """
        partitions = {partition: newest for (name, partition), newest in self._newest.items() if name == topic}
        if not partitions:
            return
        partitions[HISTORY] = max(partitions.values())
        self._db.executemany(
            "DELETE FROM seen WHERE topic = ? AND partition = ? AND arrived < ?",
            [(topic, partition, newest - HORIZON_MICROS) for partition, newest in partitions.items()],
        )

    def _seen(self, arrivals: Sequence[Arrival]) -> Seen:
        ids: dict[str, list[str]] = {}
        for arrival in arrivals:
            if arrival.event is not None:
                ids.setdefault(arrival.topic.name, []).append(arrival.topic.id_of(arrival.event))
        query = (
            "SELECT event_id, partition, offset, arrived FROM seen"
            " WHERE topic = ? AND event_id IN (SELECT value FROM json_each(?))"
        )
        seen: Seen = {}
        for topic, wanted in ids.items():
            for event_id, partition, offset, arrived in self._db.execute(query, (topic, _json(wanted))):
                seen.setdefault((topic, event_id), {})[partition, offset] = arrived
        return seen

    def _fold(self, batch: Batch) -> dict[str, list[StateRow]]:
        additions: dict[str, dict[str, Additions]] = {}
        for topic, event, known in batch.counted:
            for view in self._views_of.get(topic, ()):
                add_event(view, topic, event, known, additions.setdefault(view.name, {}))
        query = "SELECT key, time, state FROM state WHERE view = ? AND key IN (SELECT value FROM json_each(?))"
        changed: dict[str, list[StateRow]] = {}
        for name, by_key in additions.items():
            old = {key: (time, state) for key, time, state in self._db.execute(query, (name, _json(list(by_key))))}
            rows = changed[name] = []
            for key, added in by_key.items():
                time, state = old.get(key, (added.known, None))
                rows.append((key, max(time, added.known), fold(self._views[name], state, time, added)))
        return changed

    def _write(self, batch: Batch, changed: dict[str, list[StateRow]]) -> None:
        for (topic, partition), offset in batch.next_offsets.items():
            before = self._next.get((topic, partition), 0)
            if offset != before:
                self._move(topic, partition, before, offset, batch.newest.get((topic, partition)))
        self._db.executemany("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", batch.ids)
        self._db.executemany(
            "INSERT INTO total VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events",
            [(*key, count) for key, count in batch.totals.items()],
        )
        revision = self._revision + 1
        self._db.executemany(
            "INSERT INTO state VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET time = excluded.time, revision = excluded.revision, state = excluded.state",
            [(view, key, time, revision, state) for view, rows in changed.items() for key, time, state in rows],
        )
        self._db.execute("UPDATE mark SET value = ? WHERE name = 'pushed'", (self._pushed,))

    def _move(self, topic: str, partition: int, before: int, offset: int, newest: int | None) -> None:
        moved = self._db.execute(
            "INSERT INTO position VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET next_offset = excluded.next_offset, newest = excluded.newest WHERE next_offset = ?",
            (topic, partition, offset, newest, before),
        )
        if moved.rowcount != 1:
            raise StateError(
                f"{topic}-{partition} is no longer at {before}: another ingestion writes the same state",
                next_command="workbook status",
            )

    def _read_unpushed(self) -> dict[str, dict[str, StateRow]]:
        unpushed: dict[str, dict[str, StateRow]] = {}
        query = "SELECT view, key, time, state FROM state WHERE revision > ?"
        for view, *row in self._db.execute(query, (self._pushed,)):
            unpushed.setdefault(view, {})[row[0]] = (row[0], row[1], row[2])
        return unpushed

    def _mark(self, name: str) -> str:
        return str(self._db.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def connect(path: Path) -> sqlite3.Connection:
    """A connection without implicit transactions.

    A crash of the process loses nothing that was committed. A power cut may lose the last commits, whole: their
    offsets go with them, so they are read again.
    """
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA busy_timeout = 5000")
    return db


def fingerprint(views: Sequence[View]) -> str:
    """Changes with any declaration: states of other declarations must be built anew."""
    return sha256(repr(views).encode()).hexdigest()


def _json(texts: list[str]) -> str:
    return msgspec.json.encode(texts).decode()
