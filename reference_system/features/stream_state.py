"""A task's state: what it has consumed and what that amounts to, in one SQLite file.

Task p reads partition p of every topic and owns every entity whose key hashes to p (`kafka_keys.py`).

In: the records of one poll, in the order of each topic. Out: what became of each; states to push; rows to forward.
Invariant: one transaction holds a poll's offsets, event ids, totals, states and outbox, so after a crash either all
of the poll happened or none of it; records that were applied before change nothing. Whoever opens the file takes the
next epoch; a write under an older one is refused.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import msgspec

from reference_system.errors import StateError
from reference_system.events import REPARTITION_TOPIC, Event
from reference_system.features.kafka_keys import partition_of
from reference_system.features.stream_folds import fold
from reference_system.features.stream_forwarding import (
    Channel,
    Forwarded,
    ForwardedRows,
    encode_forwarded,
    untaken,
)
from reference_system.features.stream_rows import Addition, is_keyed_by, microseconds, reader, topics_of
from reference_system.features.stream_verdicts import (
    HORIZON_MICROS,
    Arrival,
    Batch,
    Judgement,
    Outcome,
    Seen,
    is_known_at_once,
    judge,
)
from reference_system.windows import View

SCHEMA = """
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
# States that a task keeps in memory, because the next poll asks for the same entities again.
_CACHE_BYTES = 32 * 1024 * 1024
# Ids are dropped when the event time has moved on by this much: a drop reads them all.
_FORGET_EVERY_MICROS = HORIZON_MICROS // 14

# Entity key, time in microseconds, sequence, state.
StateRow = tuple[str, int, int, bytes]
# What a batch adds to one view: entity key → (newest moment at which any of it became known, additions).
Additions = dict[str, tuple[int, list[Addition]]]


# A record of the outbox: its number, the task that it is for, its bytes.
Post = tuple[int, int, bytes]


@dataclass(slots=True, kw_only=True)
class _Poll:
    """A poll on its way into the state."""

    judged: list[tuple[str, Judgement]]
    following: dict[str, int]  # for each topic the next offset afterwards
    additions: dict[str, Additions] = field(default_factory=dict)
    away: dict[int, dict[tuple[str, str], ForwardedRows]] = field(default_factory=dict)

    def rows_for(self, target: int, view: str, topic: str) -> ForwardedRows:
        """Where rows for another task gather."""
        rows = self.away.setdefault(target, {})
        if (view, topic) not in rows:
            rows[view, topic] = ForwardedRows(view=view, topic=topic)
        return rows[view, topic]


class StreamState:
    """The open state file of one task; `stream_rebuild` makes one."""

    def __init__(self, path: Path, views: Sequence[View], *, task: int, tasks: int) -> None:
        """Open the file and take it over.

        Args:
            path: the task's file.
            views: the declarations.
            task: the task's number, which is that of its partitions.
            tasks: how many there are.

        Raises:
            StateError: if it cannot be read.
        """
        self.task, self._tasks = task, tasks
        self._views = {view.name: view for view in views}
        topics = sorted({topic for view in views for topic in topics_of(view)})
        self._readers = {
            topic: [
                (view, reader(view, topic), is_keyed_by(view, topic)) for view in views if topic in topics_of(view)
            ]
            for topic in topics
        }
        # The topics with rows for other tasks.
        self._away = [topic for topic, found in self._readers.items() if not all(here for _, _, here in found)]
        try:
            self._db = connect(path)
            self._epoch = self._take_over()
            positions = self._db.execute("SELECT topic, next_offset, newest FROM position").fetchall()
            taken = self._db.execute("SELECT source, topic, next_offset FROM taken").fetchall()
            self._totals = Counter({(t, Outcome(o)): n for t, o, n in self._db.execute("SELECT * FROM total")})
            self._pushed, self._base = int(self._mark("pushed")), int(self._mark("base"))
            self._unpushed = self._read_unpushed()
            outbox = self._db.execute("SELECT number, target, record FROM outbox ORDER BY number").fetchall()
        except sqlite3.DatabaseError as error:
            # A file that somebody holds for too long is no broken file.
            mend = "workbook status" if error.sqlite_errorcode == sqlite3.SQLITE_BUSY else f"rm {path}"
            raise StateError(f"{path} cannot be read ({error})", next_command=mend) from error
        self._next: dict[str, int] = {topic: offset for topic, offset, _ in positions}
        self._newest: dict[str, int | None] = {topic: newest for topic, _, newest in positions}
        self._taken: dict[Channel, int] = {(source, topic): offset for source, topic, offset in taken}
        self._outbox: list[Post] = outbox
        self._sent = outbox[0][0] - 1 if outbox else 0
        self._forgotten = dict(self._newest)
        self._cache: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._cached = 0

    def close(self) -> None:
        """Close the file; what was pushed and sent is remembered, unless another consumer has taken over."""
        with suppress(StateError), self._transaction():
            self._db.execute("UPDATE mark SET value = ? WHERE name = 'pushed'", (self._pushed,))
            self._db.execute("DELETE FROM outbox WHERE number <= ?", (self._sent,))
        self._db.close()

    def next_offsets(self) -> dict[str, int]:
        """For each topic that was ever read the first offset that was not."""
        return dict(self._next)

    def totals(self) -> dict[tuple[str, str], int]:
        """How many events of each topic had each outcome, ever."""
        return dict(self._totals)

    @property
    def sequence(self) -> int:
        """The task's progress: it grows with every event that counts, and never goes back, not even by a rebuild."""
        return self._sequence(self._next)

    def _sequence(self, positions: Mapping[str, int]) -> int:
        own = sum(offset for topic, offset in positions.items() if topic != REPARTITION_TOPIC)
        return self._base + own + sum(self._taken.values())

    def apply(
        self, batches: Sequence[Batch], *, forwarded: Sequence[Forwarded] = (), forwarded_until: int | None = None
    ) -> list[list[Outcome]]:
        """Apply a poll in one transaction.

        Args:
            batches: the records of each topic, at most one batch a topic.
            forwarded: what other tasks sent.
            forwarded_until: the first offset of the repartition topic that was not read.

        Returns:
            What became of each record of each batch. For records that were applied before: the same as then.

        Raises:
            StateError: if another consumer has taken over the task.
        """
        with self._transaction():
            judged = [(batch.topic.name, self._judge(batch)) for batch in batches]
            poll = _Poll(judged=judged, following=dict(self._next))
            for batch, (_, judgement) in zip(batches, judged, strict=True):
                self._collect(batch, judgement, poll)
                poll.following[batch.topic.name] = judgement.next_offset
            for record in forwarded:
                self._take(record, poll.additions)
            if forwarded_until is not None:
                poll.following[REPARTITION_TOPIC] = max(forwarded_until, self._next.get(REPARTITION_TOPIC, 0))
            changed = self._fold(poll)
            posted = self._write(poll, changed, write_taken=bool(forwarded))
        self._remember(poll, changed, posted)
        return [judgement.outcomes for _, judgement in judged]

    def outbox(self) -> list[Post]:
        """What is to be sent to other tasks, in order: (number, target task, record)."""
        return [each for each in self._outbox if each[0] > self._sent]

    def mark_sent(self, number: int) -> None:
        """Note that the broker has the outbox up to a number; durable with the next poll: it may be sent again."""
        self._sent = number

    def unpushed(self) -> list[tuple[View, list[StateRow]]]:
        """The states that the online store does not have yet, by view."""
        return [(self._views[view], list(rows.values())) for view, rows in self._unpushed.items() if rows]

    def mark_pushed(self) -> None:
        """Note that the online store has them all; durable with the next poll: pushing twice does no harm."""
        self._pushed = self.sequence
        self._unpushed = {}

    def forget(self, topic: str) -> None:
        """Drop the topic's ids that are beyond the horizon, now and then.

        Call it when the lake holds all that was applied: until then a restart needs the ids to tell which arrival
        was the first.
        """
        newest, before = self._newest.get(topic), self._forgotten.get(topic)
        if newest is None or (before is not None and newest - before < _FORGET_EVERY_MICROS):
            return
        with self._transaction():
            self._db.execute("DELETE FROM seen WHERE topic = ? AND time < ?", (topic, newest - HORIZON_MICROS))
        self._forgotten[topic] = newest

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Hold the task: nobody can take it over meanwhile.

        Raises:
            StateError: if somebody has.
        """
        with self._transaction():
            yield

    def _judge(self, batch: Batch) -> Judgement:
        topic = batch.topic.name
        return judge(
            batch,
            next_offset=self._next.get(topic, 0),
            newest=self._newest.get(topic),
            seen=self._seen(batch),
        )

    def _seen(self, batch: Batch) -> Seen:
        ids = [batch.topic.id_of(event) for event in batch.events if event is not None]
        query = (
            "SELECT event_id, offset, time, late FROM seen"
            " WHERE topic = ? AND event_id IN (SELECT value FROM json_each(?)) ORDER BY offset"
        )
        seen: Seen = {}
        for event_id, offset, time, late in self._db.execute(query, (batch.topic.name, _json(ids))):
            seen.setdefault(event_id, []).append(Arrival(offset, time, bool(late)))
        return seen

    def _collect(self, batch: Batch, judgement: Judgement, poll: _Poll) -> None:
        """Sort what the counted events add: for this task, and for the others."""
        topic, places, known = batch.topic.name, judgement.counted, judgement.known
        events: list[Event] = [batch.events[place] for place in places]  # type: ignore[misc] # counted: an event
        times = known if is_known_at_once(batch.topic) else [microseconds(each.event_timestamp) for each in events]
        for view, read, here in self._readers.get(topic, ()):
            mine = poll.additions.setdefault(view.name, {})
            if here:
                for key, place, addition in read(events, times):
                    _add(mine, key, known[place], addition)
                continue
            for key, place, addition in read(events, times):
                target = partition_of(key, self._tasks)
                if target == self.task:
                    _add(mine, key, known[place], addition)
                else:
                    rows = poll.rows_for(target, view.name, topic)
                    rows.keys.append(key)
                    rows.offsets.append(batch.offsets[places[place]])
                    rows.known.append(known[place])
                    rows.additions.append(addition)

    def _take(self, record: Forwarded, additions: dict[str, Additions]) -> None:
        for rows in record.rows:
            mine = additions.setdefault(rows.view, {})
            for key, known, addition in untaken(record, rows, self._taken):
                _add(mine, key, known, addition)
        for topic, offset in record.reached.items():
            channel = (record.source, topic)
            self._taken[channel] = max(offset, self._taken.get(channel, 0))

    def _fold(self, poll: _Poll) -> dict[str, list[StateRow]]:
        sequence = self._sequence(poll.following)
        changed: dict[str, list[StateRow]] = {}
        for name, by_key in poll.additions.items():
            if not by_key:
                continue
            view, old = self._views[name], self._states(name, by_key)
            rows = changed[name] = []
            for key, (known, added) in by_key.items():
                time, state = old.get(key, (known, None))
                rows.append((key, max(time, known), sequence, fold(view, state, time, added)))
        return changed

    def _states(self, view: str, keys: Additions) -> dict[str, tuple[int, bytes]]:
        cache = self._cache
        found = {key: cache[view, key] for key in keys if (view, key) in cache}
        missing = [key for key in keys if key not in found]
        if missing:
            query = "SELECT key, time, state FROM state WHERE view = ? AND key IN (SELECT value FROM json_each(?))"
            for key, time, state in self._db.execute(query, (view, _json(missing))):
                found[key] = (time, state)
        return found

    def _write(self, poll: _Poll, changed: dict[str, list[StateRow]], *, write_taken: bool) -> list[Post]:
        """Write everything; returns what is new in the outbox."""
        run = self._db.executemany
        newest = self._newest | {topic: judgement.newest for topic, judgement in poll.judged}
        moved = [(t, offset, newest.get(t)) for t, offset in poll.following.items() if offset != self._next.get(t)]
        run("INSERT OR REPLACE INTO position VALUES (?, ?, ?)", moved)
        if write_taken:
            taken = [(*channel, offset) for channel, offset in self._taken.items()]
            run("INSERT OR REPLACE INTO taken VALUES (?, ?, ?)", taken)
        for topic, judgement in poll.judged:
            run("INSERT INTO seen VALUES (?, ?, ?, ?, ?)", judgement.accepted)
            run(
                "INSERT INTO total VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events",
                [(topic, outcome, count) for outcome, count in judgement.totals.items()],
            )
        run(
            "INSERT INTO state VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET time = excluded.time, sequence = excluded.sequence, state = excluded.state",
            ((view, *row) for view, rows in changed.items() for row in rows),
        )
        if self._outbox:
            self._db.execute("DELETE FROM outbox WHERE number <= ?", (self._sent,))
        self._db.execute("UPDATE mark SET value = ? WHERE name = 'pushed'", (self._pushed,))
        reached = {topic: poll.following[topic] for topic in self._away if topic in poll.following}
        return [self._post(target, reached, list(rows.values())) for target, rows in poll.away.items()]

    def _post(self, target: int, reached: dict[str, int], rows: list[ForwardedRows]) -> Post:
        record = encode_forwarded(Forwarded(source=self.task, reached=reached, rows=rows))
        posted = self._db.execute("INSERT INTO outbox (target, record) VALUES (?, ?)", (target, record))
        return int(posted.lastrowid or 0), target, record

    def _remember(self, poll: _Poll, changed: dict[str, list[StateRow]], posted: list[Post]) -> None:
        """What is true once the transaction is."""
        self._next = poll.following
        for topic, judgement in poll.judged:
            self._newest[topic] = judgement.newest
            self._totals.update({(topic, outcome): count for outcome, count in judgement.totals.items()})
        self._outbox = [*self.outbox(), *posted]
        for view, rows in changed.items():
            unpushed = self._unpushed.setdefault(view, {})
            for row in rows:
                key, time, _, state = row
                unpushed[key] = row
                before = self._cache.get((view, key))
                self._cached += len(state) - (len(before[1]) if before else 0)
                self._cache[view, key] = (time, state)
        if self._cached > _CACHE_BYTES:
            self._cache, self._cached = {}, 0

    def _take_over(self) -> int:
        self._db.execute("BEGIN IMMEDIATE")
        epoch = int(self._mark("epoch")) + 1
        self._db.execute("UPDATE mark SET value = ? WHERE name = 'epoch'", (epoch,))
        self._db.execute("COMMIT")
        return epoch

    def _read_unpushed(self) -> dict[str, dict[str, StateRow]]:
        unpushed: dict[str, dict[str, StateRow]] = {}
        query = "SELECT view, key, time, sequence, state FROM state WHERE sequence > ?"
        for view, key, time, sequence, state in self._db.execute(query, (self._pushed,)):
            unpushed.setdefault(view, {})[key] = (key, time, sequence, state)
        return unpushed

    def _mark(self, name: str) -> str:
        return str(self._db.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchone()[0])

    def _check_epoch(self) -> None:
        if int(self._mark("epoch")) != self._epoch:
            raise StateError(f"another consumer took over task {self.task}", next_command="workbook status")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        taken = dict(self._taken)
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._check_epoch()
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            self._taken = taken
            raise
        self._db.execute("COMMIT")


def _add(additions: Additions, key: str, known: int, addition: Addition) -> None:
    found = additions.get(key)
    if found is None:
        additions[key] = (known, [addition])
    else:
        found[1].append(addition)
        if known > found[0]:
            additions[key] = (known, found[1])


def connect(path: Path) -> sqlite3.Connection:
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


def _json(texts: list[str]) -> str:
    return msgspec.json.encode(texts).decode()
