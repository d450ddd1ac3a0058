"""A first version of a streaming feature: one call of Feast's SDK for each event.

In: an entity key and its values. Out: a row in Feast's own SQLite store.
Invariant: only Feast with the settings of its quick start.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureView, Field, FileSource, PushSource, ValueType
from feast.data_source import PushMode
from feast.types import Float64

from reference_system.proofs.baselines.feast_quick_start import quick_start

_SOURCE = "totals_push"

# (entity key, event time, number of events, sum)
Push = Callable[[str, datetime, float, float], None]


def open_naive_push(folder: Path) -> Push:
    """Open Feast in the folder with one view of two features; each call of the returned function pushes one row."""
    store = quick_start(folder)
    entity = Entity(name="entity", join_keys=["entity"], value_type=ValueType.STRING)
    table = FileSource(name="totals", path=str(folder / "totals.parquet"), timestamp_field="event_timestamp")
    view = FeatureView(
        name="totals_view",
        entities=[entity],
        ttl=timedelta(days=365),
        schema=[Field(name="events", dtype=Float64), Field(name="amount", dtype=Float64)],
        source=PushSource(name=_SOURCE, batch_source=table),
        online=True,
    )
    store.apply([entity, view])

    def push(key: str, moment: datetime, events: float, amount: float) -> None:
        row = {"entity": [key], "event_timestamp": [moment], "events": [events], "amount": [amount]}
        store.push(_SOURCE, pd.DataFrame(row), to=PushMode.ONLINE)

    return push
