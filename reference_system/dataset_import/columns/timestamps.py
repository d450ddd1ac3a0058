"""Moments: a file's times → UTC, to the microsecond.

In: timestamps with or without a zone, dates, whole numbers since 1970, or ISO 8601 text, chunk by chunk. Out: as in
`typed_columns`.
Invariant: a time without a zone is UTC and said to be; what is finer than a microsecond is cut, never rounded, as on
the topics. The unit of numbers is that of most of them, so that a wrong cell cannot change it.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.arrays import Flags
from reference_system.dataset_import.columns.typed import (
    NO_TEXT,
    NO_VALUE,
    Faults,
    TypedColumn,
    is_text,
    nulls,
    plain,
    texts,
    wrong_type,
)
from reference_system.event_time import micros
from reference_system.events import EARLIEST

TIMESTAMP = pa.timestamp("us", tz="UTC")
_EARLIEST = micros(EARLIEST)
_BEFORE = f"lies before {EARLIEST:%Y-%m-%d}"
_COUNTED = "counts from another beginning than 1970 (--time-unit hours --time-origin 2024-01-01 would say which)"
_LATER = "lies in the future"
# Numbers with so many digits at most are in the unit: from 1990 to 5138 the four ranges do not overlap. Of each: its
# name, and the digits that are behind the point when it is written in seconds.
_UNITS = ((11, "seconds", 0), (14, "milliseconds", 3), (17, "microseconds", 6), (19, "nanoseconds", 9))
_MICRO_DIGITS = 6
_MOST, _INT64 = 2**62, 2**63 - 1
_DIGITS = re.compile(r"([0-9]{1,19})(?:\.([0-9]*))?")
_NUMERIC = r"^[0-9]{1,19}(\.[0-9]*)?$"
_FINER = re.compile(r"[.,][0-9]{6}0*[1-9]")
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - the zone's offset is subtracted beside it


class MomentColumn(TypedColumn):
    """Times of events; `latest` is the last that is no future, in microseconds."""

    def __init__(self, label: str, kind: pa.DataType | None, *, latest: int) -> None:
        """See `id_columns.IdColumn`."""
        self._label, self._latest = label, latest
        self._digits: Counter[int] = Counter()  # how many numbers have so many
        self._naive = self._aware = self._cut = self._dates = 0
        self.needs_look = kind is None or is_text(kind) or pa.types.is_integer(kind)
        if not self.needs_look and not pa.types.is_timestamp(kind) and not pa.types.is_date(kind):
            raise wrong_type(label, kind, "a time is a timestamp, ISO 8601 text or whole seconds since 1970")

    def look(self, cells: pa.Array) -> None:
        """The unit of the numbers."""
        values = plain(cells)
        if not pa.types.is_integer(values.type):
            values, _ = texts(values)
            values = values.filter(pc.match_substring_regex(values, _NUMERIC))
            values = pc.replace_substring_regex(values, r"\..*$", "")
        counts = pc.value_counts(pc.utf8_length(pc.replace_substring(values.drop_null().cast(pa.string()), "-", "")))
        self._digits.update({each["values"]: each["counts"] for each in counts.to_pylist()})

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Aware timestamps in microseconds."""
        values = plain(cells)
        no_text = unreadable = np.zeros(len(values), np.bool_)
        if is_text(values.type):
            values, no_text = texts(values)
            times, unreadable = self._of_text(values)
        elif pa.types.is_integer(values.type):
            times = self._of_numbers(values.cast(pa.int64(), safe=False).fill_null(0).to_numpy())
        else:
            times = self._of_timestamps(values)
        missing = nulls(values) & ~no_text
        known = ~(missing | unreadable | no_text)
        faults = {
            NO_TEXT: no_text,
            NO_VALUE: missing,
            "is no ISO 8601 time": unreadable & ~missing & ~no_text,
            _COUNTED if self._counts_from_elsewhere else _BEFORE: known & (times < _EARLIEST),
            _LATER: known & (times > self._latest),
        }
        return pa.array(times).cast(TIMESTAMP), faults

    def notes(self) -> list[str]:
        """The zone, the unit, what was cut."""
        found = []
        if self._naive:
            found.append(f"{self._label}: {self._naive:,} times without a zone were read as UTC")
        if self._aware and self._naive:
            found.append(f"{self._label}: {self._aware:,} times had a zone and were turned into UTC")
        if self._dates:
            found.append(f"{self._label}: {self._dates:,} dates without a time were read as midnight UTC")
        if self._digits:
            found.append(f"{self._label}: whole numbers were read as {self._unit[0]} since 1970 (UTC)")
        if self._cut:
            found.append(f"{self._label}: {self._cut:,} times were cut to the microsecond")
        return found

    @property
    def _unit(self) -> tuple[str, int]:
        """The name, and how many digits of a number stand behind the point of the seconds."""
        counts = dict.fromkeys(_UNITS, 0)
        for digits, count in self._digits.items():
            counts[next((unit for unit in _UNITS if digits <= unit[0]), _UNITS[-1])] += count
        _, name, behind = max(counts, key=lambda unit: (counts[unit], -unit[0]))
        return name, behind

    @property
    def _counts_from_elsewhere(self) -> bool:
        """Whether no number of the column can be seconds since 1990."""
        return bool(self._digits) and max(self._digits) < len(str(_EARLIEST // 1_000_000))

    def _of_timestamps(self, values: pa.Array) -> NDArray[np.int64]:
        if pa.types.is_date(values.type):
            self._dates += len(values) - values.null_count
            values = values.cast(pa.timestamp("ms" if pa.types.is_date64(values.type) else "s"))
        elif values.type.tz is None:
            self._naive += len(values) - values.null_count
        behind = {"s": 0, "ms": 3, "us": 6, "ns": 9}[values.type.unit]
        return self._scaled(values.cast(pa.int64()).fill_null(0).to_numpy(), behind)

    def _of_numbers(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._scaled(numbers, self._unit[1])

    def _scaled(self, numbers: NDArray[np.int64], behind: int) -> NDArray[np.int64]:
        """Microseconds; what would not fit is cut to a moment that is refused as well."""
        if behind > _MICRO_DIGITS:
            divisor = 10 ** (behind - _MICRO_DIGITS)
            self._cut += int(np.count_nonzero(numbers % divisor))
            times: NDArray[np.int64] = numbers // divisor
        else:
            scale = 10 ** (_MICRO_DIGITS - behind)
            times = np.clip(numbers, -(_MOST // scale), _MOST // scale) * scale
        return times

    def _of_text(self, values: pa.Array) -> tuple[NDArray[np.int64], Flags]:
        times = np.zeros(len(values), np.int64)
        unreadable = np.zeros(len(values), np.bool_)
        behind = self._unit[1]
        for place, text in enumerate(values.to_pylist()):
            number = _DIGITS.fullmatch(text) if text else None
            moment = None if number or not text else _iso_moment(text)
            if number:
                times[place] = self._micros(number[1], number[2] or "", behind)
            elif moment is not None:
                times[place], is_aware, is_cut = moment
                self._aware += is_aware
                self._naive += not is_aware
                self._cut += is_cut
            else:
                unreadable[place] = True
        return times, unreadable

    def _micros(self, whole: str, fraction: str, behind: int) -> int:
        """A number in the column's unit, whose digits go on behind its point."""
        fraction = fraction.rstrip("0")
        if behind <= _MICRO_DIGITS:
            self._cut += len(fraction) > _MICRO_DIGITS - behind
            return min(int(whole + fraction[: _MICRO_DIGITS - behind].ljust(_MICRO_DIGITS - behind, "0")), _MOST)
        kept, finer = whole[: _MICRO_DIGITS - behind], whole[_MICRO_DIGITS - behind :]
        self._cut += bool(finer.strip("0") or fraction)
        return int(kept or 0)


def _iso_moment(text: str) -> tuple[int, bool, bool] | None:
    """Microseconds since the epoch, whether a zone was given and digits were cut; `None` if it is no ISO 8601 time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    # Subtracted by hand: turning the first hours of year 1 into UTC would overflow.
    elapsed = moment.replace(tzinfo=None) - _EPOCH - (moment.utcoffset() or timedelta(0))
    return elapsed // datetime.resolution, moment.tzinfo is not None, _FINER.search(text) is not None
