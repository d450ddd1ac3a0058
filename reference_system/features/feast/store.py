"""Features through Feast: what training reads offline, what serving reads online, what the stream writes.

In: the state directory. Out: point-in-time joins, states by entity key.
Invariant: nothing else opens Feast's stores. States are read and written as Feast's own interface would (the same
keys, tables and guard), without an object for each key and value.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import shlex
import shutil
import string
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import cast

import ibis  # type: ignore[import-untyped] # the library through which Feast speaks to DuckDB
import msgspec
import pandas as pd
import pyarrow as pa
from feast import FeatureStore, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from reference_system.errors import StateError
from reference_system.features.feast.objects import feast_objects, state_name
from reference_system.features.feast.packed_online import PackedSqliteOnlineStore
from reference_system.features.feast.packed_table import Connections, PackedTable, joined_read
from reference_system.paths import StatePaths
from reference_system.states import StateFound, StateRow
from reference_system.use_cases import VIEWS
from reference_system.windows import View, WindowedView

_REPO = Path(__file__).parent / "repo"
_DUCKDB_SETTINGS = (
    "SET threads = 2",
    "SET memory_limit = '1GB'",
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
)


def open_store(paths: StatePaths) -> FeatureStore:
    """Feast over this state directory. Its registry is read once, and never behind a request's back.

    Raises:
        StateError: if the registry is damaged; `make up` writes one that is gone again.
    """
    text = (_REPO / "feature_store.yaml").read_text(encoding="utf-8")
    config = msgspec.yaml.decode(string.Template(text).safe_substitute(WORKBOOK_STATE_DIR=paths.root))
    store = FeatureStore(config=RepoConfig(**config, repo_path=paths.root))
    path = paths.feast_registry
    if path.exists():
        try:
            _ = store.registry
        except DecodeError as error:
            mend = f"make down && rm {shlex.quote(str(path))} && make up"
            raise StateError(f"{path} is damaged ({error})", next_command=mend) from error
    return store


@contextlib.contextmanager
def connected(paths: StatePaths) -> Iterator[FeatureStore]:
    """Feast over a state directory that will be removed: nothing holds its files afterwards."""
    store = open_store(paths)
    try:
        yield store
    finally:
        _online(store).disconnect()


def apply(store: FeatureStore) -> None:
    """Make Feast's registry and tables say what the declarations say; safe to repeat."""
    paths = _paths(store)
    paths.feast_registry.parent.mkdir(parents=True, exist_ok=True)
    objects = feast_objects(paths)
    store.apply([*objects.entities, *objects.views, *objects.services])


def write_states(store: FeatureStore, view: View, rows: Sequence[StateRow]) -> None:
    """Write states of one view in one transaction: (entity key, event time in microseconds, sequence, state).

    A state that the store has a newer one of is left out (see `features/feast/packed_table.py`).
    """
    table, prefix = _state_table(store, state_name(view))
    table.write([(_key(prefix, name), time, sequence, 0, state) for name, time, sequence, state in rows])


def read_states(store: FeatureStore, view: View | tuple[View, ...], keys: Sequence[str]) -> list[StateFound]:
    """The state and its time in microseconds for each key, in the order of the keys; (None, None) if unknown.

    Args:
        store: Feast.
        view: the view of all keys, or a tuple with a view for each key: these are read as of one moment.
        keys: entity keys.
    """
    if isinstance(view, tuple):
        read, prefixes = _joined(store, tuple([state_name(each) for each in view]))
        return read([_key(prefix, name) for prefix, name in zip(prefixes, keys, strict=True)])
    table, prefix = _state_table(store, state_name(view))
    if len(keys) == 1:
        return [table.read_one(_key(prefix, keys[0]))]
    return table.read([_key(prefix, name) for name in keys])


def copy_online(paths: StatePaths, to: StatePaths) -> None:
    """A copy of the registry and the online store, as they are at one moment: reads of it never change.

    Raises:
        StateError: if nothing was applied yet.
    """
    if not (paths.feast_registry.exists() and paths.online_store.exists()):
        raise StateError("there is no feature store yet", next_command="workbook etl")
    to.feast_registry.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(paths.feast_registry, to.feast_registry)
    Connections(paths.online_store).copy_to(to.online_store)


def states_digest(store: FeatureStore, views: Sequence[View]) -> str:
    """The digest of every state of the views; equal states have equal digests, in whatever order they came."""
    digest = hashlib.sha256()
    for view in views:
        table, _ = _state_table(store, state_name(view))
        for key, time, state in table.rows():
            digest.update(b"%d %d %d " % (len(key), time, len(state or b"")))
            digest.update(key + (state or b""))
    return digest.hexdigest()


def materialize(store: FeatureStore, start: datetime, end: datetime) -> None:
    """Feast's own materialization of every online view: states with a time in [start, end].

    It reads the snapshots that `feature_tables.write_snapshot` left; the guard keeps newer states of the stream.
    """
    with _bounded():
        store.materialize(start, end, feature_views=[state_name(view) for view in VIEWS])


def historical(store: FeatureStore, entities: pa.Table | pd.DataFrame, views: Sequence[WindowedView]) -> pd.DataFrame:
    """The point-in-time join: the entity dataframe with the features that each row had at its moment.

    Args:
        store: Feast.
        entities: the views' entity keys and `event_timestamp`; other columns pass through.
        views: whose features to add.

    Returns:
        The rows in their own order. NaN in the features of an exact view says that the ETL has not computed that
        moment; for a tiled view, no value means that nothing had happened, and is 0.

    Raises:
        StateError: if a feature table does not exist, or nothing is asked.
    """
    if not len(entities):
        raise StateError("an entity dataframe without rows has no features")
    tables = _paths(store).feature_tables
    for view in views:
        if not any((tables / view.name).glob("*.parquet")):
            raise StateError(f"there is no feature table of {view.name} yet", next_command="workbook etl")
    joined: pd.DataFrame = store.get_historical_features(
        entity_df=entities.to_pandas() if isinstance(entities, pa.Table) else entities,
        features=[f"{view.name}:{name}" for view in views for name in view.features],
        filter_by_created_timestamp=True,
    ).to_df()
    tiled = [name for view in views if view.tile is not None for name in view.features]
    return joined.fillna(dict.fromkeys(tiled, 0.0))


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Feast's DuckDB with bounded threads and memory, without its greetings and a warning about its own calls."""
    backend = ibis.get_backend()
    for setting in _DUCKDB_SETTINGS:
        backend.raw_sql(setting)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fetch_arrow_table", category=DeprecationWarning)
        yield


def _paths(store: FeatureStore) -> StatePaths:
    return StatePaths(Path(str(store.config.repo_path)))


def _online(store: FeatureStore) -> PackedSqliteOnlineStore:
    return cast("PackedSqliteOnlineStore", store._get_provider().online_store)  # noqa: SLF001 - it has no public name


@lru_cache(maxsize=64)  # few stores in a process: an unbounded cache would keep every reopened one open
def _state_table(store: FeatureStore, name: str) -> tuple[PackedTable, bytes]:
    """The table of an online view, and what each of its keys begins with in Feast's serialization.

    Looked up once for each store: Feast parses its registry on every look-up.
    """
    online = _online(store)
    view = store.get_feature_view(name)
    prefix = bytes(serialize_entity_key_prefix(view.join_keys)) + ValueType.STRING.value.to_bytes(4, "little")
    return online.table(store.config, view), prefix


@lru_cache(maxsize=64)  # as above
def _joined(
    store: FeatureStore, names: tuple[str, ...]
) -> tuple[Callable[[Sequence[bytes]], list[StateFound]], tuple[bytes, ...]]:
    """The read of one key in each view, and what each key begins with."""
    tables, prefixes = zip(*(_state_table(store, name) for name in names), strict=True)
    return joined_read(tables), prefixes


def _key(prefix: bytes, name: str) -> bytes:
    encoded = name.encode()
    return prefix + len(encoded).to_bytes(4, "little") + encoded
