"""Readings: what the reader of a file says about its columns beyond their names.

In: the options of an import. Out: the converter of each field, and the fields that no column is needed for.
Invariant: nothing is left out, counted from elsewhere or put on another scale unless the reader says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from reference_system.dataset_import.columns.elapsed_times import ElapsedColumn
from reference_system.dataset_import.columns.ids import TypedIds
from reference_system.dataset_import.columns.numbers import (
    STORED_SCALE,
    AmountColumn,
    RatingColumn,
    Refunds,
    Scale,
    TypedFlags,
)
from reference_system.dataset_import.columns.timestamps import TIMESTAMP, MomentColumn
from reference_system.dataset_import.columns.typed import TypedColumn
from reference_system.dataset_import.file_shapes import ColumnKind
from reference_system.dataset_import.files.chunks import Chunk
from reference_system.errors import ImportRefused

# What helps where a field has no column.
HINTS = {
    "transaction_id": "--row-ids takes the number of the row",
    "rating": "--implicit takes every row as an interaction without a rating",
    "event_timestamp": "--time-origin DATE alone gives all rows one moment",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnReading:
    """The options; the defaults are those of the command line.

    `time_unit` and `time_origin` belong together: times are numbers of units since the origin. The origin alone is the
    moment of every row of a file without times.
    """

    time_unit: timedelta | None = None
    time_origin: datetime | None = None
    refunds: Refunds | None = None
    rating_scale: Scale = STORED_SCALE
    is_implicit: bool = False
    has_row_ids: bool = False

    def __post_init__(self) -> None:
        """Refuse what says nothing."""
        if self.time_unit is not None and self.time_origin is None:
            raise ImportRefused("--time-unit needs --time-origin: from when on the units are counted, like 2024-01-01")
        if not self.rating_scale[0] < self.rating_scale[1]:
            raise ImportRefused("--rating-scale LOW:HIGH: the lowest rating comes first, like 0:10")

    def without_column(self, fields: tuple[str, ...], columns: tuple[str, ...]) -> dict[str, str]:
        """The fields that need no column, each with a sentence for the report.

        Raises:
            ImportRefused: if the file has times and only their origin is given.
        """
        found = {}
        if self.has_row_ids:
            found["transaction_id"] = "transaction_id: the number of the row"
        if self.is_implicit:
            found["rating"] = f"rating: every row is an interaction, stored as {STORED_SCALE[1]:g}"
        if self.time_origin is not None and self.time_unit is None:
            if "event_timestamp" in columns:
                raise ImportRefused("--time-origin needs --time-unit where the file has times: hours, days or 15m")
            found["event_timestamp"] = (
                f"event_timestamp: every row is of {self.time_origin:%Y-%m-%d %H:%M:%S} UTC; windows and splits in "
                "time mean nothing here"
            )
        return {field: note for field, note in found.items() if field in fields}

    def values(self, field: str, chunk: Chunk) -> pa.Array:
        """The cells of a field without a column."""
        if field == "transaction_id":
            return pa.array(chunk.numbers).cast(pa.string())
        if field == "rating":
            return pa.array(np.full(len(chunk.numbers), STORED_SCALE[1]))
        return pa.repeat(pa.scalar(self.time_origin, TIMESTAMP), len(chunk.numbers))

    def converter(self, kind: ColumnKind, label: str, stored: pa.DataType | None, *, latest: int) -> TypedColumn:
        """What turns cells of the type `stored` (`None` for CSV) into values of a kind.

        Raises:
            ImportRefused: if the type can hold no such value.
        """
        if stored is not None and pa.types.is_dictionary(stored):
            stored = stored.value_type
        match kind:
            case "id":
                return TypedIds(label, stored)
            case "moment" if self.time_unit is not None and self.time_origin is not None:
                return ElapsedColumn(label, stored, unit=self.time_unit, origin=self.time_origin, latest=latest)
            case "moment":
                return MomentColumn(label, stored, latest=latest)
            case "amount":
                return AmountColumn(label, stored, refunds=self.refunds)
            case "rating":
                return RatingColumn(label, stored, scale=self.rating_scale)
            case "flag":
                return TypedFlags(label, stored)
