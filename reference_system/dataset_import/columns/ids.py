"""Ids: whole numbers or text, read in one way whatever type they are stored in.

In and out: as in `typed_columns`; text from here on.
Invariant: a whole number is its decimal digits, so 12, a decimal 12 and, in a column of numbers, 12.0 are one id; text
stays as it is written. What a missing value is spelled like is no id.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.dataset_import.columns.typed import (
    NO_TEXT,
    NO_VALUE,
    Faults,
    TypedColumn,
    is_text,
    nulls,
    plain,
    texts,
    true_of,
    wrong_type,
)

# A leading zero or a plus makes it text.
_WHOLE = r"^(0|-?[1-9][0-9]*)$"
_WITH_ZEROS = r"^(0|-?[1-9][0-9]*)\.0+$"
_ZEROS = r"\.0+$"
# Fewer digits always fit into int64.
_LONG = 19
_INT64, _UINT64 = (-(2**63), 2**63 - 1), (0, 2**64 - 1)
# Up to these whole numbers are exact.
_EXACT = {"halffloat": 2**11, "float": 2**24, "double": 2**53}
_NOT_WHOLE = "is no whole number"


class TypedIds(TypedColumn):
    """Ids of one column."""

    def __init__(self, label: str, kind: pa.DataType | None) -> None:
        """`label` names the column in messages; `kind` is its type, `None` for CSV."""
        self._label, self._kind = label, kind
        self._is_text = kind is None or is_text(kind)
        is_number = kind is not None and (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        )
        if not self._is_text and not is_number:
            raise wrong_type(label, kind, "an id is a whole number or text")
        self.needs_look = self._is_text
        self._others = self._with_zeros = self._trimmed = 0
        self._least = self._most = 0

    @property
    def type_name(self) -> str:
        """The type that gives the file's own values back; of CSV what a reader would infer."""
        if self._kind is not None:
            return "string" if self._is_text and not _is_bytes(self._kind) else str(self._kind)
        if self._others:
            return "string"
        if self._with_zeros:
            return "double"
        ranges = (("int64", _INT64), ("uint64", _UINT64))
        return next((name for name, (low, high) in ranges if low <= self._least and self._most <= high), "string")

    def look(self, cells: pa.Array) -> None:
        """Whether all of them are whole numbers, and how large."""
        raw, _ = texts(cells)
        values = raw.drop_null()
        is_whole = pc.match_substring_regex(values, _WHOLE)
        with_zeros = _count(pc.match_substring_regex(values, _WITH_ZEROS))
        self._with_zeros += with_zeros
        self._others += len(values) - _count(is_whole) - with_zeros
        long = pc.and_(is_whole, pc.greater_equal(pc.utf8_length(values), _LONG))
        numbers = [int(text) for text in values.filter(long).to_pylist()]
        if _count(pc.starts_with(values, "-")):
            numbers.append(-1)
        self._least, self._most = min([self._least, *numbers]), max([self._most, *numbers])

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Decimal text for whole numbers."""
        if self._is_text:
            return self._of_text(cells)
        values = plain(cells)
        if pa.types.is_integer(values.type):
            return values.cast(pa.string()), {NO_VALUE: nulls(values)}
        if pa.types.is_decimal(values.type):
            digits = pc.replace_substring_regex(values.cast(pa.string()), _ZEROS, "")
            is_whole = true_of(pc.match_substring_regex(digits, _WHOLE))
            return digits, {NO_VALUE: nulls(values), _NOT_WHOLE: ~is_whole & ~nulls(values)}
        return _of_floats(values)

    def notes(self) -> list[str]:
        """What was left out, and what stayed."""
        found = []
        if self._trimmed:
            found.append(f"{self._label}: {self._trimmed:,} ids had spaces around them, which were left out")
        if self._with_zeros and self._reads_numbers:
            found.append(f"{self._label}: {self._with_zeros:,} ids like 12.0 were read as 12")
        elif self._with_zeros:
            found.append(
                f"{self._label}: {self._with_zeros:,} ids like 12.0 stay as they are, because the column holds text: "
                "12 would be another id"
            )
        return found

    @property
    def _reads_numbers(self) -> bool:
        return self._kind is None and not self._others

    def _of_text(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        values, no_text = texts(cells)
        self._trimmed += _count(pc.not_equal(pc.binary_length(values), _length(cells)))
        if self._with_zeros and self._reads_numbers:
            values = pc.replace_substring_regex(values, _ZEROS, "")
        return values, {NO_TEXT: no_text, NO_VALUE: nulls(values) & ~no_text}


def merged_types(before: dict[str, str], now: dict[str, str]) -> dict[str, str]:
    """The types that hold the ids of every file: of two kinds of whole number the larger, else text."""
    return {name: _wider(before.get(name, kind), kind) for name, kind in now.items()}


def _wider(one: str, other: str) -> str:
    if one == other:
        return one
    kinds = {one, other}
    if kinds <= {"float", "double"}:
        return "double"
    if not all("int" in kind or kind in ("float", "double") for kind in kinds):
        return "string"
    # A column with missing values was floats in one file and whole numbers in another: its ids are whole.
    return "uint64" if "uint64" in kinds else "int64"


def _of_floats(values: pa.Array) -> tuple[pa.Array, Faults]:
    """Floats with whole values; NaN is how a float is missing."""
    most = _EXACT[str(values.type)]
    numbers = values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    whole = np.where(missing, 0.0, np.trunc(numbers))
    inexact = np.abs(whole) > most
    faults = {
        NO_VALUE: missing,
        _NOT_WHOLE: ~missing & (whole != numbers),
        f"lies beyond {most:,}, where a {values.type} does not tell whole numbers apart": inexact,
    }
    return pa.array(np.where(inexact, 0.0, whole).astype(np.int64)).cast(pa.string()), faults


def _length(cells: pa.Array) -> pa.Array:
    return pc.binary_length(plain(cells).cast(pa.binary()))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _count(mask: pa.Array) -> int:
    return int(pc.sum(mask).as_py() or 0)
