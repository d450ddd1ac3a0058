"""Events and their outcomes, read from the lake with SQL.

In: the lake and a split. Out: Arrow tables ordered by `time` (microseconds).
Invariant: an outcome that was not known at the stated moment is not in them, and neither is a payment or a page that
came late: the feature tables of its day were closed.
"""
# ruff: noqa: S608 - the SQL is made of constants of this repository; no input from outside reaches it

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from reference_system.events import PREDICTIONS
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.training.temporal_split import Span

TIME = "epoch_us(event_timestamp) AS time"


def served_requests(lake: Path, span: Span, use_case: str) -> pa.Table:
    """What the prediction log says of the requests of a window that a model answered.

    Returns:
        entity_id, features (the model's input rows, one after the other), time.
    """
    with connection(lake.parent) as duck:
        fields = ["prediction_id", "use_case", "entity_id", "features", "event_timestamp"]
        duck.register("answers", delta_lake.read(lake, PREDICTIONS, start=span.start, end=span.end, columns=fields))
        query = f"""
            SELECT entity_id, features, {TIME} FROM answers
            WHERE use_case = '{use_case}' AND len(features) > 0 ORDER BY time, prediction_id
        """
        return duck.sql(query).to_arrow_table()
