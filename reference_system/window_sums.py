"""Sums over windows: the arithmetic under `windows.evaluate`, for short tails and long ones.

In: rows in order of time, as packed bytes or as arrays, and a plan. Out: one float64 for each feature.
Invariant: both ways add the same rows; they differ by the rounding of sums only (far below 1e-9 relative).

Windows that end at the same moment are nested: the sum of a wider one is that of the next narrower one and of the
rows between their beginnings, so that no row is added twice. Everything is a sum of such segments and never a
difference of two running totals, which would lose digits.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from reference_system.arrays import Floats, Micros

# A sum over a window: the column, and how far before the request the window begins and ends, microseconds.
WindowSum = tuple[str, int, int]

# Up to so many rows plain Python is faster than the calls into numpy (measured: they meet at about 400).
_SHORT_ROWS = 400
_WORD = 8


class Nest(NamedTuple):
    """Windows with a common end, which lies `end` microseconds before the request.

    `starts` are how far before the request they begin, the narrowest first, microseconds; `columns` are the places
    and names of those that any of them adds up.
    """

    end: int
    starts: tuple[int, ...]
    columns: tuple[tuple[int, str], ...]


class SumPlan(NamedTuple):
    """What the features of a view ask for: nests, and for each feature where its two sums stand.

    Sums stand in the order nest, column, start; `features` holds the places of the numerator and of the denominator
    (-1: none).
    """

    row_bytes: int
    nests: tuple[Nest, ...]
    features: tuple[tuple[int, int], ...]


def sum_plan(columns: Sequence[str], features: Sequence[tuple[WindowSum, WindowSum | None]]) -> SumPlan:
    """The plan for rows with these columns and the numerator and denominator of each feature."""
    wanted = [each for pair in features for each in pair if each is not None]
    nests = tuple(
        Nest(
            end,
            tuple(sorted({start for _, start, other in wanted if other == end})),
            tuple((columns.index(name), name) for name in sorted({name for name, _, other in wanted if other == end})),
        )
        for end in sorted({end for _, _, end in wanted})
    )
    places = [(name, start, end) for end, starts, named in nests for _, name in named for start in starts]
    return SumPlan(
        _WORD * (1 + len(columns)),
        nests,
        tuple(
            (places.index(numerator), -1 if denominator is None else places.index(denominator))
            for numerator, denominator in features
        ),
    )


def of_bytes(plan: SumPlan, data: bytes, as_of: int, own: Mapping[str, float] | None) -> list[float]:
    """The features of packed rows (see `windows.Tail.pack`): the request path.

    Args:
        plan: what to add up.
        data: a whole number of rows.
        as_of: the moment of the request, microseconds.
        own: the request's own row, which windows without delay include.
    """
    rows = len(data) // plan.row_bytes
    if rows > _SHORT_ROWS:
        times = np.frombuffer(data, "<i8", rows)
        return of_arrays(plan, times, np.frombuffer(data, "<f8").reshape(-1, rows)[1:].T, as_of, own)
    return _finished(plan, _sums_of_few(plan, data, rows, as_of, own))


def of_arrays(
    plan: SumPlan, times: Micros, values: Floats, as_of: int, own: Mapping[str, float] | None
) -> list[float]:
    """The features of rows in arrays of shape (n,) and (n, number of columns); otherwise as `of_bytes`."""
    sums: list[float] = []
    for end, starts, columns in plan.nests:
        stop, *bounds = times.searchsorted(
            np.array((as_of - end, *(as_of - start for start in starts))), "right"
        ).tolist()
        totals = _totals(values[:stop], bounds)
        for column, name in columns:
            counted = own.get(name, 0.0) if own is not None and not end else 0.0
            sums.extend(totals[bound][column] + counted if bound < stop else counted for bound in bounds)
    return _finished(plan, sums)


def _sums_of_few(plan: SumPlan, data: bytes, rows: int, as_of: int, own: Mapping[str, float] | None) -> list[float]:
    # Plain loops over local names: at this size every call and every comprehension would show.
    view = memoryview(data)
    times, values = view.cast("q"), view.cast("d")
    sums: list[float] = []
    for end, starts, columns in plan.nests:
        stop = bound = bisect_right(times, as_of - end, 0, rows)
        bounds = []
        for start in starts:
            bound = bisect_right(times, as_of - start, 0, bound)
            bounds.append(bound)
        for column, name in columns:
            total = 0.0 if own is None or end else own.get(name, 0.0)
            first = rows + rows * column
            last = first + stop
            for bound in bounds:
                begin = first + bound
                total += sum(values[begin:last])
                last = begin
                sums.append(total)
    return sums


def _totals(values: Floats, bounds: Sequence[int]) -> dict[int, list[float]]:
    """For each bound the sums of the columns from there to the last row; none for the place after it."""
    starts = sorted({bound for bound in bounds if bound < len(values)})
    if not starts:
        return {}
    segments = np.add.reduceat(values, starts, axis=0)
    return dict(zip(starts[::-1], segments[::-1].cumsum(axis=0).tolist(), strict=True))


def _finished(plan: SumPlan, sums: Sequence[float]) -> list[float]:
    """The features: sums, and ratios of two; a ratio over an empty window is 0."""
    found = []
    for numerator, denominator in plan.features:
        if denominator < 0:
            found.append(sums[numerator])
        else:
            per = sums[denominator]
            found.append(sums[numerator] / per if per else 0.0)
    return found
