"""Typed columns: a file's cells → ids, moments, numbers and flags, with every cell that is none of them.

In: a column, chunk by chunk; from CSV as text. Out: Arrow values of the lake's types, and masks of bad cells by
reason.
Invariant: a value is either exactly what the file says or marked bad; what had to be assumed (naive times are UTC, the
unit of whole numbers) is said in `notes`. What depends on the whole column is decided before the first cell is
converted, so nothing depends on the order of the rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Flags
from reference_system.errors import ImportRefused

# Reason → which cells of the chunk.
Faults = dict[str, Flags]

NO_VALUE = "is missing"
NO_TEXT = "is no UTF-8 text"
# How programs write a cell that has no value: pandas, R, Excel and databases.
_MISSING_SPELLINGS = pa.array(
    ["", "NaN", "nan", "-NaN", "-nan", "NaT", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NULL", "null", "None", r"\N"]
)


class TypedColumn:
    """One column on its way into the lake."""

    # Whether `look` must see every cell before the first is converted.
    needs_look = False

    def look(self, cells: pa.Array) -> None:
        """Learn what only the whole column can tell."""

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """The values, and the cells that are none (their values mean nothing)."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """What had to be assumed, as sentences."""
        return []


def wrong_type(label: str, kind: pa.DataType, expected: str) -> ImportRefused:
    """The refusal of a column whose type can hold no such value."""
    return ImportRefused(f"{label} holds {kind}: {expected}")


def plain(cells: pa.Array) -> pa.Array:
    """The cells without dictionaries."""
    return cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells


def texts(cells: pa.Array) -> tuple[pa.Array, Flags]:
    """Text as `string` without spaces around it, null where it spells a missing value; and what is no UTF-8."""
    values, no_text = _decoded(plain(cells))
    values = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.is_in(values, _MISSING_SPELLINGS), None, values), no_text


def _decoded(cells: pa.Array) -> tuple[pa.Array, Flags]:
    """Text that some writers of Parquet store as bytes, read as UTF-8."""
    try:
        return cells.cast(pa.string()), np.zeros(len(cells), np.bool_)
    except pa.ArrowInvalid:
        found = [_text_of(cell) for cell in cells.to_pylist()]
    no_text = pc.and_(pc.is_valid(cells), pc.is_null(values := pa.array(found, pa.string())))
    return values, true_of(no_text)


def _text_of(cell: bytes | None) -> str | None:
    try:
        return None if cell is None else cell.decode()
    except UnicodeDecodeError:
        return None


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds text, plain, as bytes or in a dictionary."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return any(
        is_such(kind)
        for is_such in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def nulls(values: pa.Array) -> Flags:
    """Which cells are null."""
    return true_of(pc.is_null(values))


def true_of(mask: pa.Array) -> Flags:
    """The mask as numpy has it; null is false."""
    found: Flags = mask.fill_null(False).to_numpy(zero_copy_only=False)
    return found
