"""Features through Feast: what training reads offline, what serving reads online, what the stream writes.

In: the state directory. Out: point-in-time joins, states by entity key.
Invariant: every read and write goes through Feast's own interfaces; nothing else opens its stores.
"""

from __future__ import annotations

import contextlib
import io
import string
import warnings
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import cast

import ibis  # type: ignore[import-untyped] # the library through which Feast speaks to DuckDB
import msgspec
import pandas as pd
import pyarrow as pa
from feast import FeatureStore, FeatureView, RepoConfig, ValueType
from feast.infra.key_encoding_utils import serialize_entity_key_prefix
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from reference_system.errors import StateError
from reference_system.features.feast_objects import STATE, feast_objects, join_key, state_name
from reference_system.features.feast_sqlite_online import GuardedSqliteOnlineStore, Row
from reference_system.paths import StatePaths
from reference_system.use_cases import VIEWS
from reference_system.windows import View, WindowedView, moment_of

_REPO = Path(__file__).parent / "feast_repo"
_DUCKDB_SETTINGS = (
    "SET threads = 2",
    "SET memory_limit = '1GB'",
    "SET temp_directory = ''",
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
)
# SQLite takes 32,766 parameters; far fewer keep a statement small.
_KEYS_A_READ = 1_000

# Feast's join keeps every pair of a row and a feature row of its entity for a moment: pieces bound its memory.
_ROWS_A_JOIN = 200_000
# The join returns rows in any order; this column brings them back into theirs.
_ROW = "entity_row_number"

StateRow = tuple[str, int, bytes]
StateFound = tuple[bytes | None, int | None]


def open_store(paths: StatePaths) -> FeatureStore:
    """Feast over this state directory. Its registry is read once, and never behind a request's back."""
    text = (_REPO / "feature_store.yaml").read_text(encoding="utf-8")
    config = msgspec.yaml.decode(string.Template(text).safe_substitute(WORKBOOK_STATE_DIR=paths.root))
    return FeatureStore(config=RepoConfig(**config, repo_path=paths.root))


def apply(store: FeatureStore) -> None:
    """Make Feast's registry and tables say what the declarations say; safe to repeat."""
    paths = _paths(store)
    paths.feast_registry.parent.mkdir(parents=True, exist_ok=True)
    objects = feast_objects(paths)
    store.apply([*objects.entities, *objects.views, *objects.services])


def write_states(store: FeatureStore, view: View, rows: Sequence[StateRow]) -> None:
    """Write states of one view in one transaction: (entity key, event time in microseconds, state).

    A state that the store has a newer one of is left out (see `feast_sqlite_online.py`).
    """
    key_name = join_key(view)
    batch: list[Row] = [
        (
            EntityKey(join_keys=[key_name], entity_values=[Value(string_val=key)]),
            {STATE: Value(bytes_val=state)},
            moment_of(time),
            None,
        )
        for key, time, state in rows
    ]
    _online_store(store).online_write_batch(store.config, _online_view(store, state_name(view)), batch, None)


def read_states(store: FeatureStore, view: View, keys: Sequence[str]) -> list[StateFound]:
    """The state and its time in microseconds for each key, in the order of the keys; (None, None) if unknown.

    The request path: the keys are serialized as Feast does it, without an object for each.
    """
    online, feast_view = _online_store(store), _online_view(store, state_name(view))
    prefix = _key_prefix(join_key(view))
    encoded = [key.encode() for key in keys]
    serialized = [prefix + len(key).to_bytes(4, "little") + key for key in encoded]
    found: dict[bytes, StateFound] = {}
    for start in range(0, len(keys), _KEYS_A_READ):
        some = serialized[start : start + _KEYS_A_READ]
        for key, _, value, time in online.select(store.config, feast_view, some):
            found[key] = (Value.FromString(value).bytes_val, time)
    return [found.get(key, (None, None)) for key in serialized]


@lru_cache
def _key_prefix(name: str) -> bytes:
    """What Feast's serialization of an entity key says before the key's own length."""
    return bytes(serialize_entity_key_prefix([name])) + ValueType.STRING.value.to_bytes(4, "little")


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
    frame = entities.to_pandas() if isinstance(entities, pa.Table) else entities
    frame = frame.assign(**{_ROW: range(len(frame))})
    parts = [
        _join(store, frame.iloc[first : first + _ROWS_A_JOIN], views) for first in range(0, len(frame), _ROWS_A_JOIN)
    ]
    joined = pd.concat(parts).sort_values(_ROW, ignore_index=True).drop(columns=_ROW)
    tiled = [name for view in views if view.tile is not None for name in view.features]
    return joined.fillna(dict.fromkeys(tiled, 0.0))


def _join(store: FeatureStore, frame: pd.DataFrame, views: Sequence[WindowedView]) -> pd.DataFrame:
    with _bounded():
        job = store.get_historical_features(
            entity_df=frame,
            features=[f"{view.name}:{name}" for view in views for name in view.features],
            filter_by_created_timestamp=True,
        )
        joined: pd.DataFrame = job.to_df()
    return joined


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


def _online_store(store: FeatureStore) -> GuardedSqliteOnlineStore:
    # The SDK's public reads and writes build a dataframe or a response for every call; its store interface does not.
    return cast("GuardedSqliteOnlineStore", store._get_provider().online_store)  # noqa: SLF001 - it has no public name


@lru_cache(maxsize=8)  # one store in a process, or few: an unbounded cache would keep every reopened one open
def _online_view(store: FeatureStore, name: str) -> FeatureView:
    """Looked up once for each store: Feast parses its registry on every look-up."""
    return store.get_feature_view(name)
