"""A world with payments only, small enough to train a hundred models: lake, inputs, join.

In: settings, days, scenarios. Out: a lake with payments and disputes, and the point-in-time join over it.
Invariant: everything comes from the seed; events, reporting delays and features are those of the live system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from reference_system.event_time import micros
from reference_system.features.history.model_inputs import fraud_inputs
from reference_system.lake import delta_lake
from reference_system.settings import Settings
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS, TRANSACTIONS
from reference_system.windows import WindowedView
from reference_system.world.columns import Pages, Watches
from reference_system.world.records import arrow_columns, record_fields
from reference_system.world.scenarios import Run
from reference_system.world.simulation import HISTORY_SLICE, Happened, make_world


@dataclass(frozen=True, slots=True, kw_only=True)
class CardWorld:
    """A lake up to `end` with the inputs of every payment in it, by card and timestamp."""

    lake: Path
    end: datetime
    inputs: pd.DataFrame

    def join(self, entities: pa.Table, views: Sequence[WindowedView]) -> pd.DataFrame:
        """The features of the views at the requested timestamps, each of which is that of a payment."""
        moments = entities["event_timestamp"].cast(pa.int64()).to_numpy()
        keys = pd.MultiIndex.from_arrays([entities["customer_id"].to_pandas(), moments])
        names = [name for view in views for name in view.features]
        found: pd.DataFrame = self.inputs.reindex(keys)[names].reset_index(drop=True)
        return found


def make_card_world(settings: Settings, folder: Path, *, days: int, scenarios: Sequence[Run] = ()) -> CardWorld:
    """Generate `days` days of payments and compute the model inputs of each."""
    world = make_world(settings)
    end = settings.history_start + timedelta(days=days)
    world.generate(micros(end), HISTORY_SLICE, scenarios)
    payments, chargebacks, publications, reversals = world.release_cards(micros(end))
    happened = Happened(
        payments=payments,
        chargebacks=chargebacks,
        reversals=reversals,
        publications=publications,
        pages=Pages.empty(),
        watches=Watches.empty(),
    )
    lake = folder / "lake"
    fields = {
        topic.name: (topic, of_topic) for topic, of_topic in record_fields(happened, world.viewing.catalogue).items()
    }
    for name in (TRANSACTIONS.name, CHARGEBACKS.name, REVERSALS.name):
        topic, of_topic = fields[name]
        delta_lake.append(lake, topic, delta_lake.history_table(topic, arrow_columns(of_topic)), versions={})
    return CardWorld(lake=lake, end=end, inputs=_inputs(lake))


def _inputs(lake: Path) -> pd.DataFrame:
    table = fraud_inputs(lake, lake / "no files")
    payments = delta_lake.read(
        lake, TRANSACTIONS, columns=["transaction_id", "customer_id", "event_timestamp"]
    ).read_all()
    keys = pd.DataFrame(
        {
            "transaction_id": payments["transaction_id"].to_pandas(),
            "customer_id": payments["customer_id"].to_pandas(),
            "moment": payments["event_timestamp"].cast(pa.int64()).to_numpy().astype(np.int64),
        }
    )
    found: pd.DataFrame = keys.merge(table.to_pandas(), on="transaction_id").set_index(["customer_id", "moment"])
    return found.drop(columns="transaction_id")
