"""The rows of a prediction log, as parity compares them.

In: logged predictions. Out: one row for each input row of a model, its served values by name, and the windows that it
was evaluated from.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.arrays import Floats, Ints, Micros
from reference_system.errors import BundleRefused
from reference_system.event_time import moment_of
from reference_system.events import Topic
from reference_system.lake import delta_lake
from reference_system.proofs.parity.questions import NO_STATE, Questions
from reference_system.registry.bundles.bundle import MANIFEST, version_folder
from reference_system.use_cases import DECLARATIONS
from reference_system.windows import WindowedView

LOGGED = (
    "event_timestamp",
    "created_timestamp",
    "prediction_id",
    "request_id",
    "model_version",
    "items",
    "features",
    "entity_keys",
    "state_micros",
    "catalogue_timestamp",
    "degraded",
)
# A request and its event may lie on different sides of a range's end.
_SLACK = timedelta(hours=1)


class _Signature(msgspec.Struct, frozen=True):
    """The fields of a bundle's manifest that parity reads."""

    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRows:
    """Predictions (`LOGGED`) and their feature vectors: one for a payment, one for each video of a page.

    `of` is the index of each row's prediction and `place` the row's index in it; both have shape (n,).
    """

    table: pa.Table
    of: Ints
    place: Ints

    def times(self, name: str) -> Micros:
        """A timestamp column by row, in microseconds; `NO_STATE` where it is null."""
        found: Micros = pc.fill_null(self.table[name].cast(pa.int64()), NO_STATE).to_numpy()[self.of]
        return found

    def column(self, name: str) -> pa.Array:
        """A column by row."""
        return self.table[name].take(pa.array(self.of)).combine_chunks()

    def of_lists(self, name: str, places: Ints) -> pa.Array:
        """From a column of lists, the element at the given index of each row."""
        lists = self.table[name].combine_chunks()
        starts = lists.offsets.to_numpy()[:-1]
        return lists.values.take(pa.array(starts[self.of] + places))

    def keys(self) -> list[tuple[str, str]]:
        """The two entity keys of each row."""
        first, second = (self.of_lists("entity_keys", place).to_pylist() for place in (0 * self.of, 1 + self.place))
        return list(zip(first, second, strict=True))


def rows_of_log(table: pa.Table, *, by_item: bool) -> LoggedRows:
    """The rows of the predictions."""
    counts = pc.list_value_length(table["items"]).to_numpy() if by_item else np.ones(table.num_rows, np.int64)
    of = np.repeat(np.arange(table.num_rows), counts)
    return LoggedRows(table=table, of=of, place=np.arange(len(of)) - (np.cumsum(counts) - counts)[of])


def served_values(log: LoggedRows, bundles: Path, use_case: str) -> tuple[Floats, dict[str, int]]:
    """The logged features by current name, NaN where there is none, and the number of values by undeclared name.

    A vector is in the order of its model's signature, which is in the model's bundle.
    """
    names = DECLARATIONS[use_case].inputs
    served = np.full((len(log.of), len(names)), np.nan)
    extra: Counter[str] = Counter()
    versions = log.table["model_version"].to_pylist()
    lengths = pc.list_value_length(log.table["features"]).to_numpy()
    widths = lengths // np.maximum(np.bincount(log.of, minlength=len(lengths)), 1)
    for version, width in sorted({(v, int(w)) for v, w in zip(versions, widths.tolist(), strict=True) if w}):
        chosen = np.array([v == version for v in versions]) & (widths == width)
        values = log.table["features"].filter(pa.array(chosen)).combine_chunks().flatten().to_numpy()
        rows = np.flatnonzero(chosen[log.of])
        for column, name in enumerate(_signature(bundles, use_case, version, width)):
            if name in names:
                served[rows, names.index(name)] = values.reshape(len(rows), width)[:, column]
            else:
                extra[name] += len(rows)
    return served, dict(extra)


def _signature(bundles: Path, use_case: str, version: str, width: int) -> tuple[str, ...]:
    """The input names of a version; without its bundle, the current names if there are as many."""
    names = DECLARATIONS[use_case].inputs
    try:
        manifest = version_folder(bundles, use_case, version) / MANIFEST
        names = msgspec.json.decode(manifest.read_bytes(), type=_Signature).inputs
    except (OSError, BundleRefused, msgspec.MsgspecError):
        pass
    return names if len(names) == width else tuple(f"input {number} of {version}" for number in range(width))


def questions_of(view: WindowedView, log: LoggedRows, place: Ints | int, read_at: Micros) -> Questions:
    """The windows of a view that each row was evaluated from, and how old its state was."""
    places = np.broadcast_to(place, log.of.shape)
    return Questions(
        view=view,
        keys=log.of_lists("entity_keys", places),
        moments=log.times("event_timestamp"),
        states=pc.fill_null(log.of_lists("state_micros", places), NO_STATE).to_numpy(zero_copy_only=False),
        read_at=read_at,
    )


def read_around(lake: Path, topic: Topic, first: int, last: int, columns: tuple[str, ...]) -> pa.RecordBatchReader:
    """The lake's rows of a time range (microseconds), extended by `_SLACK` on both sides."""
    start, end = moment_of(first) - _SLACK, moment_of(last) + _SLACK
    return delta_lake.read(lake, topic, start=start, end=end, columns=columns)


def places_of(wanted: pa.Array, ids: pa.ChunkedArray) -> tuple[NDArray[np.bool_], Ints]:
    """Whether each id was found, and its index (0 where it was not)."""
    found = pc.index_in(wanted, ids.combine_chunks())
    return found.is_valid().to_numpy(zero_copy_only=False), found.fill_null(0).to_numpy(zero_copy_only=False)


def values_at_places(column: pa.ChunkedArray, places: Ints) -> NDArray[Any]:
    """The values at these indices; for an empty column zeros, which are not used."""
    values: NDArray[Any] = column.to_numpy()
    return values[places] if len(values) else np.zeros(len(places))
