"""The online store: Feast's SQLite store, made safe for a live stream beside a materialization.

In: values with their event time. Out: the newest value of each entity, through Feast's own interface.
Invariant: an older value never replaces a newer one, whether it comes from the stream, a replay or a materialization.

Two things differ from the store that Feast brings. It runs in write-ahead mode, so a reader never waits for a writer.
And times are stored in whole microseconds (Feast's own rounds them to seconds) and guard every write. Equal event
times replace, because a late label changes a value without moving its newest event; only a materialized value (which
has a created time) does not replace a pushed one (which has none): the lake trails the stream by the events that
are on their way into it.
"""
# ruff: noqa: S608 - table names come from the feature definitions; no input from outside reaches the SQL

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.sqlite import SqliteOnlineStore, SqliteOnlineStoreConfig
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import make_tzaware

from reference_system.windows import micros, moment_of

# How long a writer waits for another one before it gives up; readers do not wait.
_BUSY_SECONDS = 10.0
# What one page of candidates reads (300 states of 2 to 4 KB) does not fit into SQLite's default of 2 MB.
_CACHE_KIB = 16_000

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
Found = tuple[datetime | None, dict[str, Value] | None]


class GuardedSqliteOnlineStoreConfig(SqliteOnlineStoreConfig):
    """What `online_store:` in `feature_store.yaml` may say; Feast finds a store by its path, and that by its name."""

    type: Literal["reference_system.features.feast_sqlite_online.GuardedSqliteOnlineStore"]  # type: ignore[assignment]


class GuardedSqliteOnlineStore(SqliteOnlineStore):
    """SQLite in write-ahead mode with an event-time guard on every write."""

    def _get_conn(self, config: RepoConfig) -> sqlite3.Connection:
        if self._conn is None:
            path = Path(self._get_db_path(config))
            path.parent.mkdir(parents=True, exist_ok=True)
            # No implicit transactions: each statement stands alone unless a write says otherwise.
            conn = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            conn.execute("PRAGMA journal_mode = WAL")
            conn.execute("PRAGMA synchronous = NORMAL")
            conn.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._conn = conn
        return self._conn

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: Sequence[Row],
        progress: Callable[[int], object] | None,
    ) -> None:
        """Write values in one transaction, each unless the store has a newer one."""
        version = config.entity_key_serialization_version
        rows = [
            (
                serialize_entity_key(key, entity_key_serialization_version=version),
                name,
                value.SerializeToString(),
                micros(make_tzaware(event_time)),
                None if created_time is None else micros(make_tzaware(created_time)),
            )
            for key, values, event_time, created_time in data
            for name, value in values.items()
        ]
        conn = self._get_conn(config)
        conn.execute("BEGIN IMMEDIATE")
        try:
            conn.executemany(_upsert(_table(config, table)), rows)
            conn.execute("COMMIT")
        except BaseException:
            conn.execute("ROLLBACK")
            raise
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[EntityKey],
        requested_features: Sequence[str] | None = None,  # noqa: ARG002 - Feast's own interface; all are read
    ) -> list[Found]:
        """The values of each key, in the order of the keys, with the time of the newest."""
        version = config.entity_key_serialization_version
        keys = [serialize_entity_key(key, entity_key_serialization_version=version) for key in entity_keys]
        found: dict[bytes, tuple[int, dict[str, Value]]] = {}
        for key, name, value, time in self.select(config, table, keys):
            newest, values = found.get(key, (time, {}))
            values[name] = Value.FromString(value)
            found[key] = (max(newest, time), values)
        return [(moment_of(found[key][0]), found[key][1]) if key in found else (None, None) for key in keys]

    def select(self, config: RepoConfig, table: FeatureView, keys: Sequence[bytes]) -> sqlite3.Cursor:
        """What is stored for serialized keys: (key, feature name, serialized value, time in microseconds)."""
        marks = ",".join("?" * len(keys))
        query = f'SELECT entity_key, feature_name, value, event_ts FROM "{_table(config, table)}"'
        return self._get_conn(config).execute(f"{query} WHERE entity_key IN ({marks})", keys)


def _table(config: RepoConfig, table: FeatureView) -> str:
    return f"{config.project}_{table.name}"


def _upsert(table: str) -> str:
    return f"""
        INSERT INTO "{table}" (entity_key, feature_name, value, event_ts, created_ts) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (entity_key, feature_name) DO UPDATE
        SET value = excluded.value, event_ts = excluded.event_ts, created_ts = excluded.created_ts
        WHERE excluded.event_ts > event_ts
        OR (excluded.event_ts = event_ts AND (excluded.created_ts IS NULL OR created_ts IS NOT NULL))
    """
