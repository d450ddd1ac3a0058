"""Compares the served vectors of a replay with those of history.

In: two tables with the same ids. Out: a `ReplayReport`.
Invariant: a row that differs is either explained by a tie or listed. A tie is another event of the same entity at the
same time, which history counts for both and the stream only for the one that arrived later.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.proofs.parity.comparison import differs

# At least this share of the rows must equal history.
LEAST_EQUAL = 0.999
_EXAMPLES = 10


class ReplayDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One value that differs, in a row that no tie explains."""

    id: str
    entity: str
    feature: str
    served: float
    history: float | None


class ReplayedFeature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature: in how many rows it differs from history."""

    feature: str
    different: int


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `workbook features replay --json`.

    `groups` is how often requests had to wait for events. `ok`: at least 99.9 % of the rows equal history, and ties
    explain the rest.
    """

    use_case: str
    dataset: str
    start: str
    end: str
    file: str
    history_rows: int
    events: int
    rows: int
    groups: int
    equal: int
    share_equal: float
    explained_by_ties: int
    unexplained: int
    tolerance: float
    ok: bool
    seconds: float
    rows_per_second: float
    features: list[ReplayedFeature]
    differences: list[ReplayDifference]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayComparison:
    """Rows that equal history, rows that a tie explains, and unexplained rows."""

    equal: int
    ties: int
    unexplained: int
    features: list[ReplayedFeature]
    differences: list[ReplayDifference]


def compare_rows(
    names: tuple[str, ...], served: Floats, history: pa.Table, asked: pa.Table, entity: str
) -> ReplayComparison:
    """Compare the served rows with history.

    Args:
        names: of the features.
        served: shape (n, len(names)).
        history: the result of `features build`, with the id as its first column; it may have more rows.
        asked: the events that sent requests, in the order of `served`.
        entity: the field of the entity for ties.
    """
    ids = asked[history.column_names[0]]
    place = pc.index_in(ids.combine_chunks(), history[0].combine_chunks())
    chosen = history.take(place)
    expected = np.column_stack([chosen[name].to_numpy() for name in names])
    different = differs(served, expected)
    rows = different.any(axis=1)
    tied = _ties(asked, entity)
    unexplained = np.flatnonzero(rows & ~tied)
    found = []
    for row in unexplained[:_EXAMPLES].tolist():
        for column in np.flatnonzero(different[row]).tolist():
            value = float(expected[row, column])
            found.append(
                ReplayDifference(
                    id=ids[row].as_py(),
                    entity=asked[entity][row].as_py(),
                    feature=names[column],
                    served=float(served[row, column]),
                    history=value if np.isfinite(value) else None,
                )
            )
    counts = different.sum(axis=0).tolist()
    return ReplayComparison(
        equal=int((~rows).sum()),
        ties=int((rows & tied).sum()),
        unexplained=len(unexplained),
        features=[ReplayedFeature(feature=name, different=n) for name, n in zip(names, counts, strict=True)],
        differences=found,
    )


def _ties(asked: pa.Table, entity: str) -> NDArray[np.bool_]:
    """Which events share their entity and timestamp with another."""
    keys = pa.table({"entity": asked[entity], "t": asked["event_timestamp"]})
    counted = keys.append_column("row", pa.array(np.arange(keys.num_rows)))
    groups = counted.group_by(["entity", "t"]).aggregate([("row", "count"), ("row", "list")])
    several = groups.filter(pc.greater(groups["row_count"], 1))
    tied = np.zeros(keys.num_rows, np.bool_)
    tied[several["row_list"].combine_chunks().flatten().to_numpy(zero_copy_only=False)] = True
    return tied
