"""Typed columns: a file's cells → ids, moments, numbers and flags, with every cell that is none of them.

In: a column, chunk by chunk; from CSV as text. Out: Arrow values of the lake's types, and masks of bad cells by
reason.
Invariant: a value is either exactly what the file says or marked bad; what had to be assumed (naive times are UTC, the
unit of whole numbers) is said in `notes`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.errors import ImportRefused

Mask = NDArray[np.bool_]
# Reason → which cells of the chunk.
Faults = dict[str, Mask]

_MISSING = "is missing"
# Longest first would match the same: 18 digits always fit into int64. A leading zero makes it text.
_CANONICAL_INTEGER = r"^(0|[1-9][0-9]{0,17})$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


class TypedColumn(Protocol):
    """One column on its way into the lake."""

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """The values, and the cells that are none (their values mean nothing)."""
        ...

    def notes(self) -> list[str]:
        """What had to be assumed, as sentences."""
        ...


class IdColumn:
    """Ids: whole numbers or text; text from here on, with the type they had."""

    def __init__(self, label: str, kind: pa.DataType | None) -> None:
        """`label` names the column in messages; `kind` is its type, `None` for CSV."""
        self._kind = kind
        self._only_integers = True
        if kind is not None and not (pa.types.is_integer(kind) or is_text(kind)):
            raise wrong_type(label, kind, "an id is a whole number or text")

    @property
    def type_name(self) -> str:
        """The type that gives the file's own values back: of integers theirs, of CSV what a reader would infer."""
        if self._kind is None:
            return "int64" if self._only_integers else "string"
        return str(self._kind) if pa.types.is_integer(self._kind) else "string"

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Decimal text for whole numbers."""
        values = plain(cells)
        if self._kind is None and self._only_integers:
            canonical = pc.match_substring_regex(values.drop_null(), _CANONICAL_INTEGER)
            self._only_integers = bool(pc.all(canonical, min_count=0).as_py())
        return values.cast(pa.string()), {_MISSING: nulls(values)}

    def notes(self) -> list[str]:
        """Nothing is assumed."""
        return []


class NumberColumn:
    """Numbers: floats."""

    def __init__(self, label: str, kind: pa.DataType | None) -> None:
        """See `IdColumn`."""
        if kind is not None and not (
            pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        ):
            raise wrong_type(label, kind, "a number is expected")

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Float64; pandas writes NaN for what is missing."""
        values = plain(cells)
        missing = nulls(values)
        if pa.types.is_string(values.type):
            is_number = _true(pc.match_substring_regex(values, _NUMBER))
            values = pc.if_else(pa.array(is_number), values, None)
            faults = {_MISSING: missing, "is no number": ~is_number & ~missing}
        else:
            faults = {_MISSING: missing | _true(pc.is_nan(values.cast(pa.float64(), safe=False)))}
        numbers = values.cast(pa.float64(), safe=False)
        return numbers, {**faults, "is no finite number": _true(pc.is_inf(numbers))}

    def notes(self) -> list[str]:
        """Nothing is assumed."""
        return []


class FlagColumn:
    """Flags: 0 or 1."""

    def __init__(self, label: str, kind: pa.DataType | None) -> None:
        """See `IdColumn`."""
        self._numbers = None if kind is None or pa.types.is_boolean(kind) else NumberColumn(label, kind)

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Booleans."""
        values = plain(cells)
        missing = nulls(values)
        if pa.types.is_string(values.type):
            found = [_FLAGS.get(text.lower(), -1) if text else -1 for text in values.to_pylist()]
            flags = np.array(found, np.int64)
        elif self._numbers is None:
            flags = values.fill_null(False).cast(pa.int64()).to_numpy()
        else:
            numbers, faults = self._numbers.convert(values)
            missing = faults[_MISSING]
            floats = numbers.fill_null(0.0).to_numpy()
            flags = np.where(floats == 1.0, 1, np.where(floats == 0.0, 0, -1))
        wrong = (flags < 0) & ~missing
        return pa.array(flags == 1), {_MISSING: missing, "is neither 0 nor 1": wrong}

    def notes(self) -> list[str]:
        """Nothing is assumed."""
        return []


def wrong_type(label: str, kind: pa.DataType, expected: str) -> ImportRefused:
    """The refusal of a column whose type can hold no such value."""
    return ImportRefused(f"{label} holds {kind}: {expected}")


def plain(cells: pa.Array) -> pa.Array:
    """The cells without dictionaries and views; text as `string`."""
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    return cells.cast(pa.string()) if is_text(cells.type) else cells


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds text, plain or in a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def nulls(values: pa.Array) -> Mask:
    """Which cells are null."""
    return _true(pc.is_null(values))


def _true(mask: pa.Array) -> Mask:
    found: Mask = mask.fill_null(False).to_numpy(zero_copy_only=False)
    return found
