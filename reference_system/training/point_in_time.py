"""The point-in-time join, as training sees it: keys and moments in, values out.

In: entity keys with moments and the join (Feast's, given by the flow). Out: float64 columns.
Invariant: row i of the answer belongs to row i of the question, and no value is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from reference_system.arrays import Floats, Micros
from reference_system.errors import TrainingError
from reference_system.training.temporal_split import Span
from reference_system.windows import WindowedView

Join = Callable[[pa.Table, Sequence[WindowedView]], pd.DataFrame]

_TIMESTAMP = pa.timestamp("us", tz="UTC")


def values_at(
    join: Join, view: WindowedView, keys: Sequence[str] | pa.Array | pa.ChunkedArray, times: Micros, span: Span
) -> Floats:
    """The view's features for each key at each moment, shape (n, len(view.features)).

    Args:
        join: the point-in-time join.
        view: whose features.
        keys: the entity keys, n of them.
        times: shape (n,), microseconds.
        span: the window that the rows come from, for the message.

    Raises:
        TrainingError: if a value is missing: the ETL has not computed these moments.
    """
    (values,) = joined(join, {view: keys}, times, span)
    return values


def joined(
    join: Join, keys: Mapping[WindowedView, Sequence[str] | pa.Array | pa.ChunkedArray], times: Micros, span: Span
) -> list[Floats]:
    """The features of several views at the same moments, one array a view; else like `values_at`."""
    moments = pa.array(times, pa.int64()).cast(_TIMESTAMP)
    columns = {view.entity: values for view, values in keys.items()}
    frame = join(pa.table({**columns, "event_timestamp": moments}), list(keys))
    found = []
    for view in keys:
        values = frame[list(view.features)].to_numpy(np.float64)
        missing = int(np.isnan(values).any(axis=1).sum())
        if missing:
            raise TrainingError(
                f"{missing} of {len(values)} rows from {span} have no features in {view.name}",
                next_command=f"workbook etl --from {span.start:%Y-%m-%d}",
            )
        found.append(values)
    return found
