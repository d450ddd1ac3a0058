"""Numbers: amounts, ratings and flags.

In and out: as in `typed_columns`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.dataset_import.columns.typed import (
    NO_TEXT,
    NO_VALUE,
    Faults,
    TypedColumn,
    nulls,
    plain,
    texts,
    true_of,
    wrong_type,
)

Refunds = Literal["skip", "keep"]
# The reason of rows that are left out because the reader says so.
REFUND = "is a refund"
_NEGATIVE = "lies below 0, as a refund does (--refunds skip leaves them out, --refunds keep takes them)"
# From the worst rating to the best, as they are stored.
Scale = tuple[float, float]
STORED_SCALE: Scale = (0.0, 5.0)
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_WITH_SIGN = r"^[+-]?\s?(\p{Sc}|[A-Z]{3})\s?[+-]?[0-9.,]+$|^[+-]?[0-9.,]+\s?(\p{Sc}|[A-Z]{3})$"
_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


class TypedNumbers(TypedColumn):
    """Numbers: floats."""

    def __init__(self, label: str, kind: pa.DataType | None) -> None:
        """See `id_columns.IdColumn`."""
        self._label = label
        if kind is not None and not (
            pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)
        ):
            raise wrong_type(label, kind, "a number is expected")

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Float64; pandas writes NaN for what is missing."""
        values = plain(cells)
        if pa.types.is_string(values.type):
            values, no_text = texts(values)
            missing = nulls(values) & ~no_text
            is_number = true_of(pc.match_substring_regex(values, _NUMBER))
            has_sign = true_of(pc.match_substring_regex(values, _WITH_SIGN))
            values = pc.if_else(pa.array(is_number), values, None)
            faults = {
                NO_TEXT: no_text,
                NO_VALUE: missing,
                "has a currency sign: a number stands alone, 12.50 for $12.50": has_sign,
                "is no number": ~is_number & ~has_sign & ~missing & ~no_text,
            }
        else:
            faults = {NO_VALUE: nulls(values) | true_of(pc.is_nan(values.cast(pa.float64(), safe=False)))}
        numbers = values.cast(pa.float64(), safe=False)
        return numbers, {**faults, "is no finite number": true_of(pc.is_inf(numbers))}


class AmountColumn(TypedNumbers):
    """Amounts of payments; what lies below zero is a refund."""

    def __init__(self, label: str, kind: pa.DataType | None, *, refunds: Refunds | None) -> None:
        """`refunds`: leave them out, or keep them; `None` marks them."""
        super().__init__(label, kind)
        self._refunds = refunds
        self._kept = 0

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """As numbers."""
        numbers, faults = super().convert(cells)
        negative = true_of(pc.less(numbers, 0.0))
        if self._refunds == "keep":
            self._kept += int(negative.sum())
        elif self._refunds == "skip":
            faults[REFUND] = negative
        else:
            faults["lies below 0, as a refund does (--refunds skip leaves them out, --refunds keep takes them)"] = (
                negative
            )
        return numbers, faults

    def notes(self) -> list[str]:
        """How many stayed."""
        return [f"{self._label}: {self._kept:,} refunds were kept, with amounts below 0"] if self._kept else []


class RatingColumn(TypedNumbers):
    """Ratings on a scale of their own, stored on the scale from 0 to 5."""

    def __init__(self, label: str, kind: pa.DataType | None, *, scale: Scale) -> None:
        """`scale`: the worst rating and the best."""
        super().__init__(label, kind)
        self._scale = scale

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Float64 from 0 to 5."""
        numbers, faults = super().convert(cells)
        low, high = self._scale
        outside = true_of(pc.or_(pc.less(numbers, low), pc.greater(numbers, high)))
        faults[f"lies outside of {low:g} to {high:g} (--rating-scale LOW:HIGH says another scale)"] = outside
        if self._scale != STORED_SCALE:
            worst, best = STORED_SCALE
            numbers = pc.add(pc.divide(pc.multiply(pc.subtract(numbers, low), best - worst), high - low), worst)
        return numbers, faults

    def notes(self) -> list[str]:
        """The scale."""
        if self._scale == STORED_SCALE:
            return []
        low, high = self._scale
        return [f"{self._label}: ratings from {low:g} to {high:g} were put on the scale from 0 to 5"]


class TypedFlags(TypedColumn):
    """Flags: 0 or 1."""

    def __init__(self, label: str, kind: pa.DataType | None) -> None:
        """See `id_columns.IdColumn`."""
        self._numbers = None if kind is None or pa.types.is_boolean(kind) else TypedNumbers(label, kind)

    def convert(self, cells: pa.Array) -> tuple[pa.Array, Faults]:
        """Booleans."""
        values = plain(cells)
        missing = nulls(values)
        if pa.types.is_string(values.type):
            values, _ = texts(values)
            missing = nulls(values)
            found = [_FLAGS.get(text.lower(), -1) if text else -1 for text in values.to_pylist()]
            flags = np.array(found, np.int64)
        elif self._numbers is None:
            flags = values.fill_null(False).cast(pa.int64()).to_numpy()
        else:
            numbers, faults = self._numbers.convert(values)
            missing = faults[NO_VALUE]
            floats = numbers.fill_null(0.0).to_numpy()
            flags = np.where(floats == 1.0, 1, np.where(floats == 0.0, 0, -1))
        wrong = (flags < 0) & ~missing
        return pa.array(flags == 1), {NO_VALUE: missing, "is neither 0 nor 1": wrong}
