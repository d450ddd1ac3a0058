"""Training-serving skew: the input rows that were served, compared with the same rows from history.

In: the prediction log, the rows of an evaluation. Out: both forms of the rows that are in both.
Invariant: two rows are the same if amount and moment are, to the microsecond; what is not unique is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Floats32, Micros
from reference_system.training import duckdb_events
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.temporal_split import Span
from reference_system.use_case import UseCase

# The newest part of a window is enough to see whether inputs are there, and is quickly read.
_DAYS = timedelta(days=3)
_PAGE_ROWS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AsServed:
    """Rows from history and as served, shape (n, width) each.

    `paired` says whether row i of both is the same request; else they are two samples of the same kind.
    """

    history: Floats32
    served: Floats32
    paired: bool


NOTHING_SERVED = AsServed(history=np.empty((0, 0), np.float32), served=np.empty((0, 0), np.float32), paired=False)


def served_pairs(lake: Path, use_case: UseCase, span: Span, rows: LabelledRows) -> AsServed:
    """The rows of the last days of a window, each with the row that was served for the same request."""
    found = _rows(duckdb_events.served_requests(lake, _last_days(span), use_case), rows.inputs.shape[1])
    return paired(rows, *found)


def served_sample(lake: Path, use_case: UseCase, span: Span, history: Floats32) -> AsServed:
    """Rows that were served in the last days of a window, and rows of the same kind from history."""
    served, _ = _rows(duckdb_events.served_requests(lake, _last_days(span), use_case), history.shape[1])
    return AsServed(history=history[:_PAGE_ROWS], served=served[:_PAGE_ROWS], paired=False)


def paired(rows: LabelledRows, inputs: Floats32, times: Micros) -> AsServed:
    """The rows whose moment and first input (the amount) occur once on each side."""
    ours = {key: place for place, key in _unique(rows.inputs, rows.times)}
    theirs = {key: place for place, key in _unique(inputs, times)}
    both = sorted(ours.keys() & theirs.keys())
    return AsServed(
        history=rows.inputs[[ours[key] for key in both]],
        served=inputs[[theirs[key] for key in both]],
        paired=True,
    )


def _rows(table: pa.Table, width: int) -> tuple[Floats32, Micros]:
    """The input rows of the answers, shape (n, width), and the moment of each."""
    lengths = pc.list_value_length(table["features"]).to_numpy()
    table = table.filter(pa.array(lengths % width == 0, pa.bool_()))
    values = pc.list_flatten(table["features"]).to_numpy().astype(np.float32).reshape(-1, width)
    counts = pc.list_value_length(table["features"]).to_numpy() // width
    return values, np.repeat(table["time"].to_numpy(), counts)


def _unique(inputs: Floats32, times: Micros) -> list[tuple[int, tuple[int, float]]]:
    seen: dict[tuple[int, float], int | None] = {}
    for place, key in enumerate(zip(times.tolist(), inputs[:, 0].tolist(), strict=True)):
        seen[key] = None if key in seen else place
    return [(place, key) for key, place in seen.items() if place is not None]


def _last_days(span: Span) -> Span:
    return Span(start=max(span.start, span.end - _DAYS), end=span.end)
