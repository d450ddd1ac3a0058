"""Cells of any table: what Arrow read → numbers or texts.

In: an Arrow array of any type. Out: floats with NaN, or texts with codes; and which cells are neither.
Invariant: a cell is missing (null, NaN, blank), a number, or text that is no number; none is dropped.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from reference_system.windows import Floats

CellType = Literal["number", "text", "moment", "nothing", "other"]
Mask = NDArray[np.bool_]
_TRUTH = pa.array(["true", "false"])
_NUMBER = r"^[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?$"


@lru_cache(maxsize=256)
def cell_type(kind: pa.DataType) -> CellType:
    """What the cells of a column of this Arrow type are."""
    if pa.types.is_dictionary(kind):
        return cell_type(kind.value_type)
    if pa.types.is_null(kind):
        return "nothing"
    if any(check(kind) for check in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)):
        return "number"
    # Truth values are texts, because a file without types (CSV) has them so.
    if pa.types.is_boolean(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_string_view(kind):
        return "text"
    return "moment" if pa.types.is_temporal(kind) else "other"


def encoded(cells: pa.Array) -> pa.Array:
    """The same cells; texts as codes into their distinct texts, so that whatever reads them reads each text once."""
    if pa.types.is_boolean(cells.type):
        cells = cells.cast(pa.string())
    return cells.dictionary_encode() if cell_type(cells.type) == "text" else cells


def numbers_of(cells: pa.Array) -> tuple[Floats, Mask | None]:
    """Floats, NaN where there is no number; and where that is because of a text, `None` if nowhere. Shapes (n,)."""
    match cell_type(cells.type):
        case "number":
            return _floats(_decoded(cells)), None
        case "text":
            distinct, codes = _codes(cells)
            numbers = _parsed(distinct)
            if numbers.null_count == len(numbers):
                floats, is_text = np.full(len(cells), np.nan), ~nulls(distinct)
            else:
                floats, is_text = np.append(_floats(numbers), [np.nan])[codes], ~nulls(distinct) & nulls(numbers)
            return floats, np.append(is_text, [False])[codes] if is_text.any() else None
        case "nothing":
            return np.full(len(cells), np.nan), None
        case _:
            return np.full(len(cells), np.nan), ~nulls(cells)


def texts_of(cells: pa.Array) -> tuple[list[str | None], NDArray[np.int64]]:
    """Distinct texts, `None` for a missing one, and the place of each cell among them, shape (n,)."""
    if cell_type(cells.type) != "text":
        cells = _decoded(cells).cast(pa.string())
    distinct, codes = _codes(cells)
    return [*distinct.to_pylist(), None], codes


def moments_of(cells: pa.Array) -> tuple[Floats, Mask]:
    """Microseconds since 1970 (or the number that was given), and where there is none that can be sorted."""
    cells = _decoded(cells)
    if cell_type(cells.type) == "text":
        trimmed = _trimmed(cells)
        numbers = _parsed(trimmed)
        times = numbers if numbers.null_count == trimmed.null_count else _iso(trimmed)
    elif (
        cell_type(cells.type) == "moment" and not pa.types.is_time(cells.type) and not pa.types.is_duration(cells.type)
    ):
        times = cells.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).cast(pa.float64(), safe=False)
    else:
        times = pa.array(numbers_of(cells)[0], from_pandas=True)
    found = _floats(times)
    return found, np.isnan(found)


def nulls(cells: pa.Array) -> Mask:
    """Which cells are null."""
    return np.asarray(cells.is_null().to_numpy(zero_copy_only=False))


def _decoded(cells: pa.Array) -> pa.Array:
    return cells.dictionary_decode() if pa.types.is_dictionary(cells.type) else cells


def _codes(cells: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """Distinct texts, tidied, null where blank; and the place of each cell, one past the last where it is null."""
    found = encoded(cells)
    indices = found.indices.fill_null(len(found.dictionary)) if found.null_count else found.indices
    return _tidied(found.dictionary), indices.to_numpy(zero_copy_only=False)


def _tidied(texts: pa.Array) -> pa.Array:
    """Trimmed, and truth values in one spelling."""
    trimmed = _trimmed(texts)
    lower = pc.utf8_lower(trimmed)
    return pc.if_else(pc.is_in(lower, _TRUTH), lower, trimmed)


def _trimmed(cells: pa.Array) -> pa.Array:
    trimmed = pc.utf8_trim_whitespace(cells)
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _parsed(cells: pa.Array) -> pa.Array:
    """Floats; null where the text is no number."""
    return pc.if_else(pc.match_substring_regex(cells, _NUMBER), cells, None).cast(pa.float64())


def _iso(cells: pa.Array) -> pa.Array:
    """ISO 8601 with or without a zone → microseconds; null where it is none."""
    nothing: pa.Array = pa.nulls(len(cells), pa.float64())
    for kind in (pa.timestamp("us"), pa.timestamp("us", tz="UTC")):
        try:
            return cells.cast(kind).cast(pa.int64()).cast(pa.float64(), safe=False)
        except pa.ArrowInvalid:
            continue
    return nothing


def _floats(cells: pa.Array) -> Floats:
    numbers = cells if pa.types.is_float64(cells.type) else cells.cast(pa.float64(), safe=False)
    return np.asarray(numbers.to_numpy(zero_copy_only=False))
