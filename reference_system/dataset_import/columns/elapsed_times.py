"""Elapsed times: hours, days or steps since a beginning that the reader names → UTC.

In and out: as in `typed_columns`.
Invariant: the same number is the same moment whatever type it has, to the nearest microsecond.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from reference_system.dataset_import.columns.numbers import TypedNumbers
from reference_system.dataset_import.columns.timestamps import TIMESTAMP
from reference_system.dataset_import.columns.typed import Faults
from reference_system.event_time import micros
from reference_system.events import EARLIEST

_MOST = 2.0**62


class ElapsedColumn(TypedNumbers):
    """Times of events as numbers of units since an origin; `latest` is the last that is no future, in microseconds."""

    def __init__(
        self, label: str, kind: pa.DataType | None, *, unit: timedelta, origin: datetime, latest: int
    ) -> None:
        """See `id_columns.IdColumn`."""
        super().__init__(label, kind)
        self._unit, self._origin, self._latest = unit, origin, latest

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Aware timestamps in microseconds."""
        numbers, faults = super().convert(cells)
        unit = self._unit / timedelta(microseconds=1)
        units = np.nan_to_num(numbers.fill_null(0.0).to_numpy(zero_copy_only=False))
        elapsed = np.rint(np.clip(units, -_MOST / unit, _MOST / unit) * unit)
        times = elapsed.astype(np.int64) + micros(self._origin)
        known = ~np.any(list(faults.values()), axis=0)
        faults[f"lies before {EARLIEST:%Y-%m-%d}"] = known & (times < micros(EARLIEST))
        faults["lies in the future"] = known & (times > self._latest)
        return pa.array(times).cast(TIMESTAMP), faults

    def notes(self) -> list[str]:
        """The unit and the origin."""
        return [
            f"{self._label}: numbers were read as steps of {self._unit} since {self._origin:%Y-%m-%d %H:%M:%S} UTC"
        ]
