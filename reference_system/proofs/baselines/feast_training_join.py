"""The contenders of `workbook bench training-set`: three joins of the same training set, each in a separate process.

In: a folder with `asked.parquet` and two tables of facts. Out: an Arrow table, and the cost of each join.
Invariant: each contender reads the same files from the beginning and returns every requested row with every feature.
Both Feast stores get the same definitions; the handwritten query is minimal.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from time import perf_counter, process_time
from typing import Literal

import msgspec
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig, ValueType
from feast.types import Float64, String

from reference_system.features.history.asof_join import joining
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK, VIEWS
from reference_system.windows import WindowedView

Contender = Literal["by hand", "ours", "feast"]
_OFFLINE_STORES = {
    "ours": "reference_system.features.feast.asof_offline.AsofDuckDBOfflineStore",
    "feast": "duckdb",
}
_FEATURES = [f"{view.name}:{name}" for view in VIEWS for name in view.features]
_MB = 1e6


class Lap(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of one join, and the peak memory of its process until then."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float


def serve_contender(contender: Contender, folder: Path, calls: Connection) -> None:
    """Join once for each call until the connection closes; the first call's rows are kept as `<contender>.parquet`.

    The first message is the memory of the process before its first join, in MB.
    """
    # The libraries print progress bars and warnings, which do not belong in a command's output.
    with contender_log(folder, contender).open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    asked = pd.read_parquet(folder / "asked.parquet")
    join = _by_hand(folder) if contender == "by hand" else _through_feast(folder, _OFFLINE_STORES[contender])
    calls.send(psutil.Process(os.getpid()).memory_info().rss / _MB)
    kept = folder / f"{contender}.parquet"
    while True:
        try:
            calls.recv()
        except EOFError:
            return
        wall, cpu = perf_counter(), process_time()
        joined = join(asked)
        lap = Lap(wall_seconds=perf_counter() - wall, cpu_seconds=process_time() - cpu, peak_mb=_peak_mb())
        if not kept.exists():
            pq.write_table(joined, kept)
        calls.send(lap)


def contender_log(folder: Path, contender: Contender) -> Path:
    """The file with the output of a contender's process."""
    return folder / f"{contender}.log"


def facts_path(folder: Path, view: WindowedView) -> Path:
    """The view's facts: one file per day."""
    return folder / view.name / "*.parquet"


def _through_feast(folder: Path, offline_store: str) -> Callable[[pd.DataFrame], pa.Table]:
    """Feast's API over one of its offline stores, as a user would set it up."""
    store = FeatureStore(
        config=RepoConfig(
            project="training_set",
            provider="local",
            registry={"path": str(folder / f"{offline_store.rpartition('.')[2]}.registry")},
            offline_store={"type": offline_store},
            online_store={"type": "sqlite", "path": str(folder / "online.sqlite")},
            entity_key_serialization_version=3,
            repo_path=folder,
        )
    )
    for view in VIEWS:
        entity = Entity(name=view.entity, join_keys=[view.entity], value_type=ValueType.STRING)
        source = FileSource(
            path=str(facts_path(folder, view)),
            timestamp_field="event_timestamp",
            created_timestamp_column="created_timestamp",
        )
        schema = [Field(name=view.entity, dtype=String), *(Field(name=name, dtype=Float64) for name in view.features)]
        store.apply([entity, FeatureView(name=view.name, entities=[entity], schema=schema, source=source)])

    def join(asked: pd.DataFrame) -> pa.Table:
        return store.get_historical_features(asked, _FEATURES, filter_by_created_timestamp=True).to_arrow()

    return join


def _by_hand(folder: Path) -> Callable[[pd.DataFrame], pa.Table]:
    """A DuckDB query that assumes no corrections and no duplicate timestamps."""
    customers, terminals = (str(facts_path(folder, view)) for view in (CUSTOMER_ACTIVITY, TERMINAL_RISK))
    columns = ", ".join(f"{view.name}.{name}" for view in VIEWS for name in view.features)
    query = f"""
        SELECT asked.*, {columns} FROM asked
        ASOF LEFT JOIN read_parquet('{customers}') AS customer_activity
            ON asked.customer_id = customer_activity.customer_id
            AND asked.event_timestamp >= customer_activity.event_timestamp
        ASOF LEFT JOIN read_parquet('{terminals}') AS terminal_risk
            ON asked.terminal_id = terminal_risk.terminal_id
            AND asked.event_timestamp >= terminal_risk.event_timestamp
    """  # noqa: S608 - names come from the declarations, the folder from the benchmark

    def join(asked: pd.DataFrame) -> pa.Table:
        with joining(folder) as duck:
            duck.register("asked", asked)
            return duck.sql(query).to_arrow_table()

    return join


def _peak_mb() -> float:
    """Peak memory of this process. On Linux `getrusage` includes the size of the parent at the start."""
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))):
        return int(found[1]) * 1024 / _MB
    return getrusage(RUSAGE_SELF).ru_maxrss / _MB
