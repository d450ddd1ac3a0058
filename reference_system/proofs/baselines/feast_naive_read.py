"""A first version of an online read: the fifteen inputs as feature values, through Feast's SDK.

In: keys of customers and terminals. Out: a function that reads the inputs of one transaction.
Invariant: only Feast on its own SQLite store with the settings of its quick start. The values are precomputed: this
version cannot complete windows at the time of the request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Float64

from reference_system.proofs.baselines.feast_quick_start import quick_start
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, REQUEST_INPUTS, TERMINAL_RISK

# (customer, terminal) → the values by name.
Read = Callable[[str, str], dict[str, list[object]]]
_FEATURES = {
    CUSTOMER_ACTIVITY.entity: (*REQUEST_INPUTS, *CUSTOMER_ACTIVITY.features),
    TERMINAL_RISK.entity: TERMINAL_RISK.features,
}


def open_naive_read(folder: Path, customers: Sequence[str], terminals: Sequence[str], moment: datetime) -> Read:
    """Open Feast in the folder with a value of every input for these entities as of `moment`."""
    store = quick_start(folder)
    keys = {CUSTOMER_ACTIVITY.entity: customers, TERMINAL_RISK.entity: terminals}
    for entity, features in _FEATURES.items():
        view = _view(folder, entity, features)
        store.apply([Entity(name=entity, join_keys=[entity], value_type=ValueType.STRING), view])
        rows: list[tuple[EntityKey, dict[str, Value], datetime, datetime | None]] = [
            (
                EntityKey(join_keys=[entity], entity_values=[Value(string_val=key)]),
                {name: Value(double_val=float(place)) for place, name in enumerate(features)},
                moment,
                None,
            )
            for key in keys[entity]
        ]
        store._get_provider().online_write_batch(store.config, view, rows, None)  # noqa: SLF001 - bulk write
    names = [f"{entity}_view:{name}" for entity, features in _FEATURES.items() for name in features]

    def read(customer: str, terminal: str) -> dict[str, list[object]]:
        row = {CUSTOMER_ACTIVITY.entity: customer, TERMINAL_RISK.entity: terminal}
        found: dict[str, list[object]] = store.get_online_features(features=names, entity_rows=[row]).to_dict()
        return found

    return read


def _view(folder: Path, entity: str, features: Sequence[str]) -> FeatureView:
    table = FileSource(
        name=f"{entity}_table", path=str(folder / f"{entity}.parquet"), timestamp_field="event_timestamp"
    )
    return FeatureView(
        name=f"{entity}_view",
        entities=[Entity(name=entity, join_keys=[entity], value_type=ValueType.STRING)],
        ttl=timedelta(days=365),
        schema=[Field(name=name, dtype=Float64) for name in features],
        source=PushSource(name=f"{entity}_push", batch_source=table),
        online=True,
    )
