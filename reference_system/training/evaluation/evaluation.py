"""Evaluation: the metrics of a scorer on the test window.

A scorer is anything that gives each input row a number: a fitted model, a champion's bundle, one input.
In: a scorer. Out: its metrics, and the primary one again under other weights of the cards or viewers, for a bootstrap.
Invariant: every scorer answers the same rows. Each use case has its own evaluator in `training/<use case>/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from reference_system.arrays import Floats, Floats32
from reference_system.training.labelled_rows import LabelledRows

Scorer = Callable[[Floats32], Floats]
WeightedWorth = Callable[[Floats], float]
CALIBRATION_ERROR = "expected_calibration_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of the rows or pages: the primary metric there, and how many positives say so."""

    worth: WeightedWorth
    positives: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What one scorer is worth.

    `scores` are those of the test rows. `primary` gives the primary metric when the groups (cards, viewers) count
    with these weights, shape (groups,). `slices` gives the same for parts of the rows, by name; it is worked out when
    it is asked for.
    """

    metrics: dict[str, float]
    scores: Floats
    primary: WeightedWorth
    slices: Callable[[], Mapping[str, Slice]]


class Evaluator(Protocol):
    """Something that can tell what a scorer is worth."""

    @property
    def rows(self) -> LabelledRows:
        """The test rows."""
        ...

    @property
    def groups(self) -> int:
        """How many cards or viewers there are."""
        ...

    def evaluate(self, scorer: Scorer) -> Evaluation:
        """Let the scorer answer everything, and judge the answers."""
        ...
