"""The online store: Feast's interface over one packed row for each entity and view.

In: feature values with their event time, from the stream, a push or a materialization. Out: the newest.
Invariant: an older value never replaces a newer one, and a value of a batch never one that the stream gave for the
same moment (`features/feast/packed_table.py` has the order).

A view whose only feature is one `Bytes` feature (every state of a use case) is stored as these bytes, any other as
one protobuf message of all its features by name. Times are whole microseconds.

What comes through Feast's own API carries no sequence: with a created time it counts as a batch (a materialization;
a push to a view whose source has a created time), without one as pushed. Either replaces what is older, neither
replaces what the stream wrote for the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

from feast import Entity, FeatureView, RepoConfig
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Map, Value
from feast.repo_config import FeastConfigBaseModel
from feast.types import Bytes
from feast.utils import make_tzaware

from reference_system.event_time import micros, moment_of
from reference_system.features.feast.packed_table import BATCH, PUSHED, Connections, PackedTable, Row

Entry = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
ReadRow = tuple[datetime | None, dict[str, Value] | None]
WriteProgress = Callable[[int], object] | None


class PackedSqliteOnlineStoreConfig(FeastConfigBaseModel):
    """What `online_store:` in `feature_store.yaml` may say; Feast finds a store by its path, and that by its name."""

    type: Literal["reference_system.features.feast.packed_online.PackedSqliteOnlineStore"]
    path: str


class PackedSqliteOnlineStore(OnlineStore):
    """SQLite in write-ahead mode, one packed row for each entity and view, with a guard on every write."""

    def __init__(self) -> None:
        """Nothing is opened yet."""
        self._connections: Connections | None = None
        self._tables: dict[str, PackedTable] = {}

    def table(self, config: RepoConfig, view: FeatureView) -> PackedTable:
        """The table of a view."""
        name = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
        found = self._tables.get(name)
        if found is None:
            if self._connections is None:
                self._connections = Connections(Path(config.repo_path or ".") / config.online_store.path)
            column = "features" if _bytes_feature(view) is None else "value"
            found = self._tables[name] = PackedTable(self._connections, name, column)
        return found

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: Sequence[Entry], progress: WriteProgress
    ) -> None:
        """Write values in one transaction, each unless the store has a newer one."""
        version, feature = config.entity_key_serialization_version, _bytes_feature(table)
        rows: list[Row] = [
            (
                serialize_entity_key(key, entity_key_serialization_version=version),
                micros(make_tzaware(event_time)),
                PUSHED if created_time is None else BATCH,
                0 if created_time is None else micros(make_tzaware(created_time)),
                _packed(values, feature),
            )
            for key, values, event_time, created_time in data
        ]
        self.table(config, table).write(rows)
        if progress:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[EntityKey],
        requested_features: Sequence[str] | None = None,  # noqa: ARG002 - one row holds all of them
    ) -> list[ReadRow]:
        """The values of each key, in the order of the keys, with their event time."""
        version, feature = config.entity_key_serialization_version, _bytes_feature(table)
        keys = [serialize_entity_key(key, entity_key_serialization_version=version) for key in entity_keys]
        return [
            (None, None) if time is None else (moment_of(time), _unpacked(value, feature))
            for value, time in self.table(config, table).read(keys)
        ]

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Both ways."""
        return SupportedAsyncMethods(read=True, write=True)

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: Sequence[Entry], progress: WriteProgress
    ) -> None:
        """Write in a thread: a commit may wait for the disk or another writer."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: Sequence[EntityKey],
        requested_features: Sequence[str] | None = None,
    ) -> list[ReadRow]:
        """Read in the event loop: a read takes microseconds and waits for nobody."""
        return self.online_read(config, table, entity_keys, requested_features)

    def update(  # noqa: PLR0913, PLR0917 - Feast's own interface
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],  # noqa: ARG002 - keys live in the views' own tables
        entities_to_keep: Sequence[Entity],  # noqa: ARG002 - the same
        partial: bool,  # noqa: ARG002, FBT001 - both lists are followed either way
    ) -> None:
        """Make the tables of views to keep, drop those of views to delete."""
        self._tables.clear()  # a view may have got other features
        for view in tables_to_delete:
            self.table(config, view).drop()
        for view in tables_to_keep:
            self.table(config, view).create()

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:  # noqa: ARG002 - as above
        """Drop the tables of the views. The file stays: other processes may have it open."""
        for view in tables:
            self.table(config, view).drop()
        self.disconnect()

    async def close(self) -> None:
        """Close this process's writer and this thread's reader."""
        self.disconnect()

    def disconnect(self) -> None:
        """The same, without an event loop."""
        if self._connections is not None:
            self._connections.close()


def _bytes_feature(view: FeatureView) -> str | None:
    """The view's only feature, if that is of type `Bytes`."""
    only = view.features[0] if len(view.features) == 1 else None
    return only.name if only is not None and only.dtype == Bytes else None


def _packed(values: dict[str, Value], bytes_feature: str | None) -> bytes | None:
    if bytes_feature is None:
        return bytes(Map(val=values).SerializeToString())
    value = values.get(bytes_feature)
    return value.bytes_val if value is not None and value.HasField("bytes_val") else None


def _unpacked(value: bytes | None, bytes_feature: str | None) -> dict[str, Value]:
    if bytes_feature is None:
        return dict(Map.FromString(value or b"").val)
    return {bytes_feature: Value() if value is None else Value(bytes_val=value)}
