"""Moments: a file's times → UTC, to the microsecond.

In: timestamps with or without a zone, dates, whole numbers since 1970, or ISO 8601 text, chunk by chunk. Out: as in
`typed_columns`.
Invariant: a time without a zone is UTC and said to be; the unit of whole numbers is decided once, by the middle of
the first chunk, so that a wrong cell cannot change it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from reference_system.events import EARLIEST
from reference_system.imports.typed_columns import Faults, Mask, is_text, nulls, plain, wrong_type
from reference_system.windows import micros

_TIMESTAMP = pa.timestamp("us", tz="UTC")
_EARLIEST = micros(EARLIEST)
_BEFORE = f"lies before {EARLIEST:%Y-%m-%d}"
_LATER = "lies in the future"
# Numbers up to each bound are in the unit: from 1990 to 5138 the four ranges do not overlap.
_UNITS = (
    (10**11, ("seconds", 1_000_000, 1)),
    (10**14, ("milliseconds", 1_000, 1)),
    (10**17, ("microseconds", 1, 1)),
)
_NANOS_OF_MICRO = 1_000
_NANOSECONDS = ("nanoseconds", 1, _NANOS_OF_MICRO)
_MOST, _INT64 = 2**62, 2**63 - 1
_DIGITS = re.compile(r"[0-9]{1,19}")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the zone's offset is subtracted beside it


class MomentColumn:
    """Times of events; `latest` is the last that is no future, in microseconds."""

    def __init__(self, label: str, kind: pa.DataType | None, *, latest: int) -> None:
        """See `typed_columns.IdColumn`."""
        self._label, self._latest = label, latest
        self._unit: tuple[str, int, int] | None = None
        self._text_is_numbers: bool | None = None
        self._naive = self._aware = self._cut = self._dates = 0
        usable = kind is None or is_text(kind) or pa.types.is_integer(kind)
        if not usable and not pa.types.is_timestamp(kind) and not pa.types.is_date(kind):
            raise wrong_type(label, kind, "a time is a timestamp, ISO 8601 text or whole seconds since 1970")

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Aware timestamps in microseconds."""
        values = plain(cells)
        missing = nulls(values)
        unreadable = np.zeros(len(values), np.bool_)
        if pa.types.is_string(values.type):
            times, unreadable = self._of_text(values)
        elif pa.types.is_integer(values.type):
            times = self._of_numbers(values.cast(pa.int64(), safe=False).fill_null(0).to_numpy())
        else:
            times = self._of_timestamps(values)
        known = ~(missing | unreadable)
        faults = {
            "is missing": missing,
            "is no ISO 8601 time": unreadable & ~missing,
            _BEFORE: known & (times < _EARLIEST),
            _LATER: known & (times > self._latest),
        }
        return pa.array(times).cast(_TIMESTAMP), faults

    def notes(self) -> list[str]:
        """The zone, the unit, what was cut."""
        found = []
        if self._naive:
            found.append(f"{self._label}: {self._naive:,} times without a zone were read as UTC")
        if self._aware and self._naive:
            found.append(f"{self._label}: {self._aware:,} times had a zone and were turned into UTC")
        if self._dates:
            found.append(f"{self._label}: {self._dates:,} dates without a time were read as midnight UTC")
        if self._unit is not None:
            found.append(f"{self._label}: whole numbers were read as {self._unit[0]} since 1970 (UTC)")
        if self._cut:
            found.append(f"{self._label}: {self._cut:,} times were cut to the microsecond")
        return found

    def _of_timestamps(self, values: pa.Array) -> NDArray[np.int64]:
        if pa.types.is_date(values.type):
            self._dates += len(values) - values.null_count
            values = values.cast(pa.timestamp("ms" if pa.types.is_date64(values.type) else "s"))
        elif values.type.tz is None:
            self._naive += len(values) - values.null_count
        scale = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}[values.type.unit]
        numbers: NDArray[np.int64] = values.cast(pa.int64()).fill_null(0).to_numpy()
        if values.type.unit == "ns":
            self._cut += int(np.count_nonzero(numbers % _NANOS_OF_MICRO))
            return numbers // _NANOS_OF_MICRO
        return _scaled(numbers, scale)

    def _of_numbers(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._unit is None and len(numbers):
            middle = int(np.median(np.abs(numbers)))
            self._unit = next((unit for bound, unit in _UNITS if middle < bound), _NANOSECONDS)
        if self._unit is None:
            return numbers
        _, scale, divisor = self._unit
        if divisor > 1:
            self._cut += int(np.count_nonzero(numbers % divisor))
        return _scaled(numbers // divisor, scale)

    def _of_text(self, values: pa.Array) -> tuple[NDArray[np.int64], Mask]:
        texts = values.to_pylist()
        if self._text_is_numbers is None and values.null_count < len(values):
            self._text_is_numbers = all(text.isdecimal() and text.isascii() for text in texts if text)
        if self._text_is_numbers:
            numbers = [_whole(text) for text in texts]
            times = self._of_numbers(np.array([number or 0 for number in numbers], np.int64))
            return times, np.array([number is None for number in numbers], np.bool_)
        read = [_iso_moment(text) if text else None for text in texts]
        self._aware += sum(one[1] for one in read if one)
        self._naive += sum(not one[1] for one in read if one)
        times = np.array([one[0] if one else 0 for one in read], np.int64)
        return times, np.array([one is None for one in read], np.bool_)


def _whole(text: str | None) -> int | None:
    """Decimal digits as a number; anything else is none."""
    number = int(text) if text and _DIGITS.fullmatch(text) else None
    return number if number is not None and number <= _INT64 else None


def _scaled(numbers: NDArray[np.int64], scale: int) -> NDArray[np.int64]:
    """Microseconds; what would not fit is cut to a moment that is refused as well."""
    return np.clip(numbers, -(_MOST // scale), _MOST // scale) * scale


def _iso_moment(text: str) -> tuple[int, bool] | None:
    """Microseconds since the epoch and whether a zone was given, or `None` if it is no ISO 8601 time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    # Subtracted by hand: turning the first hours of year 1 into UTC would overflow.
    elapsed = moment.replace(tzinfo=None) - _EPOCH - (moment.utcoffset() or timedelta(0))
    return elapsed // datetime.resolution, moment.tzinfo is not None
