"""The result of a benchmark: figures measured in turn in one run, and the goals that they reach or miss.

In: laps of each contender. Out: a record for the run file and for the table.
Invariant: a goal compares figures that were measured in the same call.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Literal

import msgspec


class BenchFigure(msgspec.Struct, frozen=True, kw_only=True):
    """One contender: the figure of each lap, in the order of measurement."""

    what: str
    unit: str
    laps: list[float]
    note: str = ""

    @property
    def median(self) -> float:
        """The figure to compare."""
        return median(self.laps)

    @property
    def spread(self) -> float:
        """(largest - smallest) / median of the laps."""
        return (max(self.laps) - min(self.laps)) / self.median if self.median else 0.0


class BenchGoal(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio or figure, and its bound."""

    what: str
    found: float
    bound: float
    kind: Literal["at least", "at most"]

    @property
    def reached(self) -> bool:
        """Whether the bound is kept."""
        return self.found >= self.bound if self.kind == "at least" else self.found <= self.bound


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """A benchmark's outcome; `conditions` describes the measured data."""

    name: str
    conditions: dict[str, str]
    figures: list[BenchFigure]
    goals: list[BenchGoal]


def figure_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios per lap: both figures of a lap are measured together, so a busy minute affects both."""
    return median(one / other for one, other in zip(above, below, strict=True))
