"""Cells of any table: what Arrow read → numbers or texts.

In: an Arrow array of any type. Out: floats with NaN, or texts with codes; and which cells are neither.
Invariant: a cell is missing (null, NaN, blank, or spelled as `missing_values` says), a number, or text that is no
number; none is dropped. A value means the same in whatever type or file format it stands.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.arrays import Flags, Floats
from reference_system.missing_values import MISSING
from reference_system.monitoring.table_drift.timestamps import spans_of

CellType = Literal["number", "text", "moment", "nothing", "other"]
# What texts of a column of numbers stand for: numbers alone, truth values as well, durations as well.
CellReading = Literal["numbers", "truth", "durations"]
_TRUTH = ("false", "true")
_MISSING = pa.array(MISSING)
_NUMBER = r"^[-+]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|(?i:inf|infinity))$"
_PER_SECOND = {"s": 1e0, "ms": 1e3, "us": 1e6, "ns": 1e9}
# What stands for bytes that are no UTF-8.
UNREADABLE = "\ufffd"

_CHECKS: tuple[tuple[CellType, tuple[Callable[[pa.DataType], bool], ...]], ...] = (
    ("nothing", (pa.types.is_null,)),
    # A duration, and a time of the day, is a number of seconds.
    (
        "number",
        (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration, pa.types.is_time),
    ),
    # Truth values are texts, because a file without types (CSV) has them so; many systems store texts as bytes.
    (
        "text",
        (
            pa.types.is_boolean,
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        ),
    ),
    ("moment", (pa.types.is_timestamp, pa.types.is_date)),
)


@lru_cache(maxsize=256)
def cell_type(kind: pa.DataType) -> CellType:
    """What the cells of a column of this Arrow type are."""
    if pa.types.is_dictionary(kind):
        return cell_type(kind.value_type)
    return next((found for found, checks in _CHECKS if any(check(kind) for check in checks)), "other")


def encoded(cells: pa.Array) -> pa.Array:
    """The same cells; texts as codes into their distinct texts, so that whatever reads them reads each text once."""
    if cell_type(cells.type) != "text":
        return cells
    if not pa.types.is_dictionary(cells.type):
        return _strings(cells).dictionary_encode()
    return pa.DictionaryArray.from_arrays(cells.indices, _strings(cells.dictionary))


def coded(cells: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Distinct texts of cells of texts, tidied, null where missing; the place of each cell, one past the last if null.

    Two of them are alike where they were spelled differently.
    """
    found = encoded(cells)
    indices = found.indices.fill_null(len(found.dictionary)) if found.null_count else found.indices
    return _tidied(found.dictionary), indices.to_numpy(zero_copy_only=False)


def numbers_of(cells: pa.Array, reading: CellReading = "numbers") -> tuple[Floats, Flags | None]:
    """Floats, NaN where there is no number; and where that is because of a text, `None` if nowhere. Shapes (n,)."""
    match cell_type(cells.type):
        case "number":
            return _floats(decoded(cells)), None
        case "text":
            distinct, codes = coded(cells)
            floats, is_text = cell_numbers(distinct, reading), ~null_cells(distinct)
            is_text &= np.isnan(floats)
            return np.append(floats, np.nan)[codes], np.append(is_text, [False])[codes] if is_text.any() else None
        case "nothing":
            return np.full(len(cells), np.nan), None
        case _:
            return np.full(len(cells), np.nan), ~null_cells(cells)


def cell_numbers(texts: pa.Array, reading: CellReading) -> Floats:
    """What tidied texts say, NaN where it is no number; shape (n,)."""
    numbers = _floats(pc.if_else(pc.match_substring_regex(texts, _NUMBER), texts, None).cast(pa.float64()))
    if reading == "truth":
        known = truths_in(texts)
        return np.where(known >= 0, known, numbers)
    if reading == "durations":
        return np.where(np.isnan(numbers), spans_of(texts), numbers)
    return numbers


def truths_in(texts: pa.Array) -> NDArray[np.int64]:
    """1 for true, 0 for false, -1 elsewhere; shape (n,)."""
    return np.asarray(pc.fill_null(pc.index_in(texts, pa.array(_TRUTH)), -1).to_numpy(), np.int64)


def texts_of(cells: pa.Array, *, truth: bool = False) -> tuple[list[str | None], NDArray[np.int64]]:
    """Distinct texts, `None` for a missing one, and the place of each cell among them, shape (n,).

    With `truth` the numbers 0 and 1 are `false` and `true`, whatever their type.
    """
    kind = cell_type(cells.type)
    if truth and kind in {"number", "text"}:
        numbers, _ = numbers_of(cells, "truth")
        cells = _as_truth(cells if kind == "number" else encoded(cells).dictionary_decode(), numbers)
    elif kind in {"moment", "number"}:
        cells = _written(decoded(cells))
    elif kind != "text":
        # Cells of no text: one text of the type's name, which no reference has.
        cells = pc.if_else(cells.is_null(), None, str(cells.type))
    distinct, codes = coded(cells)
    return [*distinct.to_pylist(), None], codes


def null_cells(cells: pa.Array) -> Flags:
    """Which cells are null."""
    return np.asarray(cells.is_null().to_numpy(zero_copy_only=False))


def decoded(cells: pa.Array) -> pa.Array:
    """The cells themselves, where they are codes."""
    return cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells


def _as_truth(cells: pa.Array, numbers: Floats) -> pa.Array:
    truth = pa.array(np.where(numbers == 0.0, 0, np.where(numbers == 1.0, 1, -1)))
    named = pc.if_else(pc.less(truth, 0), None, truth)
    return pc.coalesce(pc.take(pa.array(_TRUTH), named), _written(cells))


def _written(cells: pa.Array) -> pa.Array:
    if pa.types.is_duration(cells.type) or pa.types.is_time(cells.type):
        cells = pa.array(_floats(cells), from_pandas=True)
    return cells if pa.types.is_string(cells.type) else cells.cast(pa.string())


def _strings(cells: pa.Array) -> pa.Array:
    """Texts, whatever they are stored as; bytes that are no UTF-8 are marked."""
    if pa.types.is_fixed_size_binary(cells.type):
        cells = cells.cast(pa.binary())
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        return cells
    try:
        return cells.cast(pa.large_string() if pa.types.is_large_binary(cells.type) else pa.string())
    except pa.ArrowInvalid:
        found = [None if cell is None else cell.decode("utf-8", "replace") for cell in cells.to_pylist()]
        return pa.array(found, pa.large_string())


def _tidied(texts: pa.Array) -> pa.Array:
    """Trimmed, truth values in one spelling, null where the text says that there is none."""
    trimmed = pc.utf8_trim_whitespace(texts)
    lower = pc.utf8_lower(trimmed)
    alike = pc.if_else(pc.is_in(lower, pa.array(_TRUTH, lower.type)), lower, trimmed)
    return pc.if_else(pc.is_in(lower, _MISSING.cast(lower.type)), None, alike)


def _floats(cells: pa.Array) -> Floats:
    kind = cells.type
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        whole = cells.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64()).cast(pa.float64(), safe=False)
        return np.asarray(whole.to_numpy(zero_copy_only=False)) / _PER_SECOND[kind.unit]
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return _shortest(cells)
    if pa.types.is_decimal(kind):
        # By way of its digits: Arrow's own cast is not the nearest float.
        cells = cells.cast(pa.string())
    numbers = cells if pa.types.is_float64(cells.type) else cells.cast(pa.float64(), safe=False)
    return np.asarray(numbers.to_numpy(zero_copy_only=False))


def _shortest(cells: pa.Array) -> Floats:
    """Short floats as the decimal that they were written for: 0.1, not the float64 nearest to the short one."""
    values = np.asarray(cells.cast(pa.float32()).to_numpy(zero_copy_only=False))
    if pa.types.is_float16(cells.type):
        distinct, places = np.unique(values.astype(np.float16), return_inverse=True)
        return np.array([float(str(value)) for value in distinct])[places]
    written = pa.array(values).cast(pa.string()).cast(pa.float64())
    return np.asarray(written.to_numpy(zero_copy_only=False))
