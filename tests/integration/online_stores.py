"""Three online stores behind Feast's own interface: ours, Feast's SQLite store, Redis on a server of this test run."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pandas as pd
import pytest
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Bytes, Int64, String

from reference_system.features.feast.packed_online import PackedSqliteOnlineStore

KINDS = ("packed", "sqlite", "redis")
NOON = datetime(2025, 3, 3, 12, tzinfo=UTC)
CUSTOMER = Entity(name="customer_id", join_keys=["customer_id"], value_type=ValueType.STRING)


def view(name: str, folder: Path, *features: Field) -> FeatureView:
    """An online view of customers with a push source, over a Parquet file that a materialization reads."""
    source = FileSource(
        name=f"{name}_table",
        path=str(folder / f"{name}.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    return FeatureView(
        name=name,
        entities=[CUSTOMER],
        schema=[Field(name="customer_id", dtype=String), *features],
        source=PushSource(name=f"{name}_push", batch_source=source),
        online=True,
    )


def numbers(folder: Path, name: str = "numbers", features: Sequence[str] = ("left", "right")) -> FeatureView:
    """A view of several features."""
    return view(name, folder, *(Field(name=feature, dtype=Int64) for feature in features))


def states(folder: Path) -> FeatureView:
    """A view of one feature, which is bytes."""
    return view("states", folder, Field(name="state", dtype=Bytes))


@dataclass(slots=True)
class Online:
    """A feature store of one kind, and shorthands for the calls that Feast makes to it."""

    folder: Path
    config: RepoConfig
    feast: FeatureStore

    @property
    def store(self) -> OnlineStore:
        """The online store itself."""
        return self.feast._get_provider().online_store

    @property
    def numbers(self) -> FeatureView:
        """The view of two numbers, as it is registered."""
        return self.feast.get_feature_view("numbers")

    @property
    def states(self) -> FeatureView:
        """The view of one state, as it is registered."""
        return self.feast.get_feature_view("states")

    def write(
        self, key: str, values: dict[str, Value] | int, moment: datetime = NOON, *, of: FeatureView | None = None
    ) -> None:
        """Write one row as a push does: values by feature, or one number for both features."""
        named = {name: Value(int64_val=values) for name in ("left", "right")} if isinstance(values, int) else values
        self.store.online_write_batch(
            self.feast.config, of or self.numbers, [(key_of(key), named, moment, None)], None
        )

    def read(self, *keys: str, of: FeatureView | None = None) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """What the store answers."""
        of = of or self.numbers
        return self.store.online_read(
            self.feast.config, of, [key_of(key) for key in keys], [field.name for field in of.features]
        )

    def number(self, key: str) -> int | None:
        """The number that both features hold; `None` if the key is unknown."""
        ((_, found),) = self.read(key)
        left, right = ((found or {}).get(name, Value()) for name in ("left", "right"))
        assert left == right, "a row is written and read as one"
        return left.int64_val if left.HasField("int64_val") else None

    def materialize(self, rows: Sequence[tuple[str, int, datetime]]) -> None:
        """Feast's own materialization of the numbers."""
        moments = pd.Series([moment for *_, moment in rows]).astype("datetime64[us, UTC]")
        pd.DataFrame(
            {
                "customer_id": [key for key, _, _ in rows],
                "left": [number for _, number, _ in rows],
                "right": [number for _, number, _ in rows],
                "event_timestamp": moments,
                "created_timestamp": moments,
            }
        ).to_parquet(self.folder / "numbers.parquet")
        self.feast.materialize(NOON - timedelta(days=2), NOON + timedelta(days=2), feature_views=["numbers"])

    def again(self) -> Online:
        """The same store, opened a second time, as another process would."""
        return Online(self.folder, self.config, FeatureStore(config=self.config))

    def apply(self, *views: FeatureView) -> None:
        """Make exactly these views exist."""
        gone: list[Any] = [
            each for each in self.feast.list_feature_views() if each.name not in {one.name for one in views}
        ]
        self.feast.apply([CUSTOMER, *views], objects_to_delete=gone, partial=False)


def key_of(key: str) -> EntityKey:
    """The entity key of a customer."""
    return EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=key)])


def open_online(kind: str, folder: Path, redis: int | None) -> Online:
    """A feature store in this folder; the folder's name is the project, which keeps tests on one server apart."""
    online_store: dict[str, Any] = {
        "packed": {
            "type": f"{PackedSqliteOnlineStore.__module__}.{PackedSqliteOnlineStore.__name__}",
            "path": str(folder / "online.sqlite"),
        },
        "sqlite": {"type": "sqlite", "path": str(folder / "online.sqlite")},
        "redis": {"type": "redis", "connection_string": f"127.0.0.1:{redis}"},
    }[kind]
    config = RepoConfig(
        project="".join(each if each.isalnum() else "_" for each in folder.name),
        provider="local",
        registry=str(folder / "registry.db"),
        offline_store={"type": "duckdb"},
        online_store=online_store,
        entity_key_serialization_version=3,
        repo_path=folder,
    )
    return Online(folder, config, FeatureStore(config=config))


@contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """The port of a Redis-compatible server that keeps nothing; the test is skipped where there is none."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server or valkey-server on PATH: the Redis part of the conformance tests does not run")
    if importlib.util.find_spec("redis") is None:
        pytest.skip("the Python package redis is not installed: the Redis part of the conformance tests does not run")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    server = subprocess.Popen([program, *settings], stdout=subprocess.DEVNULL)
    try:
        _until_it_answers(port)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=10)


def _until_it_answers(port: int) -> None:
    deadline = monotonic() + 10
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                assert connection.recv(7).startswith(b"+PONG")
                return
        except OSError:
            if monotonic() > deadline:
                raise
            sleep(0.05)
