"""One SQLite table of the online store: a row for each entity, guarded, read beside a writer.

In: rows (serialized entity key, event time, sequence, created time, value), times in microseconds. Out: the newest.
Invariant: whatever order the stream's rows arrive in, and however often, the same row stays.

Of two rows the newer event time wins. At equal event time the higher sequence wins: the stream numbers its values
with its progress (0 and up); values without a number rank below them, `PUSHED` above `BATCH` (see `packed_online.py`),
and among themselves the later created time wins, the later write if that is equal too.

The database is in write-ahead mode: readers never take a write lock and never wait for the writer. Its checkpoints
are SQLite's passive ones, which copy what no reader needs any more and wait for nobody.
"""
# ruff: noqa: S608 - table names come from the feature definitions; no input from outside reaches the SQL

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

Row = tuple[bytes, int, int, int, bytes | None]
StoredState = tuple[bytes | None, int | None]

PUSHED = -1
BATCH = -2

# How long a writer waits for another one. Readers wait only while the log is being recovered after a crash.
_WRITER_BUSY_SECONDS = 10.0
_READER_BUSY_SECONDS = 0.05
# What one page of candidates reads (300 states of 2 to 4 KB) does not fit into SQLite's default of 2 MB.
_CACHE_KIB = 16_000
# A checkpoint syncs to the disk, and reads of the same file wait for that: few large ones hold up fewer reads than
# SQLite's one every 4 MB. The log's file is cut back after a burst, which would otherwise keep its size for ever.
_CHECKPOINT_PAGES = 4_000
_LOG_BYTES = 32_000_000
# SQLite takes 32,766 parameters; far fewer keep a statement small.
_KEYS_A_READ = 1_000
_NOT_FOUND: StoredState = (None, None)


class Connections:
    """The connections of one process to one database: a writer, and a reader for each thread."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._inherited: list[object] = []
        self._open_anew()
        after_fork = weakref.WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (call := after_fork()) is not None and call())

    def _open_anew(self) -> None:
        self._local = threading.local()
        self._writer: sqlite3.Connection | None = None
        self.lock = threading.Lock()

    def _after_fork(self) -> None:
        # A child opens its own connections; those of its parent must not even be closed in it.
        self._inherited += [self._local, self._writer]
        self._open_anew()

    def reader(self) -> sqlite3.Cursor:
        """This thread's cursor for reads.

        Raises:
            sqlite3.OperationalError: if there is no database.
        """
        try:
            return self._local.cursor  # type: ignore[no-any-return] # whatever is set below
        except AttributeError:
            cursor = self._local.cursor = self._open_reader().cursor()
            return cursor

    def writer(self) -> sqlite3.Connection:
        """The one connection that writes: hold `lock` while you use it."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # No implicit transactions: each statement stands alone unless a write says otherwise.
            writer = sqlite3.connect(
                self._path, timeout=_WRITER_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            writer.execute("PRAGMA journal_mode = WAL")
            # A power cut may lose the last commits, never the database; the stream and the lake can refill it.
            writer.execute("PRAGMA synchronous = NORMAL")
            writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            writer.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
            self._writer = writer
        return self._writer

    def copy_to(self, path: Path) -> None:
        """Copy the whole database as it is at one moment; a writer goes on meanwhile."""
        with closing(self._open_reader()) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)

    def close(self) -> None:
        """Close the writer and this thread's reader; both open again when they are asked for."""
        with self.lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        cursor = self._local.__dict__.pop("cursor", None)
        if cursor is not None:
            cursor.connection.close()

    def _open_reader(self) -> sqlite3.Connection:
        # `mode=rw` does not create a missing database; a read-only connection could not share the log's index.
        reader = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=_READER_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        reader.execute("PRAGMA query_only = ON")
        reader.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return reader


class PackedTable:
    """One table, and the statements over it, built once."""

    def __init__(self, connections: Connections, name: str, value: str) -> None:
        """`value` names the column of values: a table whose values have another form has another column."""
        self.connections = connections
        self.name = name
        self.value = value
        self._reader = connections.reader
        self._select = f'SELECT {value}, event_ts FROM "{name}" WHERE entity_key = ?'
        self._upsert = f"""
            INSERT INTO "{name}" (entity_key, event_ts, sequence, created_ts, {value}) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (entity_key) DO UPDATE SET event_ts = excluded.event_ts, sequence = excluded.sequence,
            created_ts = excluded.created_ts, {value} = excluded.{value}
            WHERE excluded.event_ts > event_ts OR (excluded.event_ts = event_ts AND (
                excluded.sequence > sequence OR (
                    excluded.sequence = sequence AND sequence < 0 AND excluded.created_ts >= created_ts)))
        """

    def create(self) -> None:
        """Make the table; one of another form, which holds nothing that this one could read, is dropped first."""
        with self.connections.lock:
            writer = self.connections.writer()
            columns = [name for _, name, *_ in writer.execute(f'PRAGMA table_info("{self.name}")')]
            if columns and columns != ["entity_key", "event_ts", "sequence", "created_ts", self.value]:
                writer.execute(f'DROP TABLE "{self.name}"')
            writer.execute(
                f'CREATE TABLE IF NOT EXISTS "{self.name}" (entity_key BLOB NOT NULL PRIMARY KEY, event_ts INTEGER '
                f"NOT NULL, sequence INTEGER NOT NULL, created_ts INTEGER NOT NULL, {self.value} BLOB)"
            )

    def drop(self) -> None:
        """Remove the table and what it holds."""
        with self.connections.lock:
            self.connections.writer().execute(f'DROP TABLE IF EXISTS "{self.name}"')

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows in one transaction, each unless the table holds one that wins over it."""
        with self.connections.lock:
            writer = self.connections.writer()
            writer.execute("BEGIN IMMEDIATE")
            try:
                writer.executemany(self._upsert, rows)
                writer.execute("COMMIT")
            except BaseException:
                writer.execute("ROLLBACK")
                raise

    def read_one(self, key: bytes) -> StoredState:
        """The value of one key and its event time; (None, None) if it is unknown."""
        return self._reader().execute(self._select, (key,)).fetchone() or _NOT_FOUND

    def rows(self) -> Iterator[tuple[bytes, int, bytes | None]]:
        """Every key with its event time and value, in the order of the keys."""
        yield from self._reader().execute(
            f'SELECT entity_key, event_ts, {self.value} FROM "{self.name}" ORDER BY entity_key'
        )

    def read(self, keys: Sequence[bytes]) -> list[StoredState]:
        """The values of keys and their event times, in the order of the keys."""
        found: dict[bytes, StoredState] = {}
        for start in range(0, len(keys), _KEYS_A_READ):
            some = keys[start : start + _KEYS_A_READ]
            marks = ",".join("?" * len(some))
            query = f'SELECT entity_key, {self.value}, event_ts FROM "{self.name}" WHERE entity_key IN ({marks})'
            found.update((key, (value, time)) for key, value, time in self._reader().execute(query, some).fetchall())
        return [found.get(key, _NOT_FOUND) for key in keys]


def joined_read(tables: Sequence[PackedTable]) -> Callable[[Sequence[bytes]], list[StoredState]]:
    """A read of one key in each of several tables of a database: one statement, so all of one moment."""
    reader = tables[0].connections.reader
    columns = ", ".join(f"s{i}.{table.value}, s{i}.event_ts" for i, table in enumerate(tables))
    joins = " ".join(f'LEFT JOIN "{table.name}" s{i} ON s{i}.entity_key = ?' for i, table in enumerate(tables))
    query = f"SELECT {columns} FROM (SELECT 1) {joins}"

    def read(keys: Sequence[bytes]) -> list[StoredState]:
        row = reader().execute(query, keys).fetchone()
        return list(zip(row[::2], row[1::2], strict=True))

    return read
