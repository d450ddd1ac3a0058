"""Prequential folds: validate as the model will be used, on what came after what it learned from.

    train ──────► delay ──► test
          train ──────► delay ──► test            each fold moves on by one test window

In: the moments between which rows exist. Out: folds, the oldest first.
Invariant: a fold's test begins a delay after its training ended, and the last test ends where the rows end: nobody
validates on a week whose outcomes were not known when the choice was made.
Source: Dawid, Statistical theory: the prequential approach, 1984; Gama, Sebastião and Rodrigues, On evaluating stream
learning algorithms, 2013.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reference_system.event_time import MICROS_PER_DAY
from reference_system.training.labelled_rows import LabelledRows

# Where no whole fold fits, the window is cut into quarters: two of them to learn from, the next one to be judged on.
_QUARTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How many days a fold learns, waits and is judged, and how many folds at most."""

    train_days: int
    delay_days: int
    test_days: int
    folds: int

    @property
    def days(self) -> int:
        """The days of one fold."""
        return self.train_days + self.delay_days + self.test_days


@dataclass(frozen=True, slots=True)
class Fold:
    """Two windows `[start, end)` in microseconds."""

    train_start: int
    train_end: int
    test_start: int
    test_end: int

    def train(self, rows: LabelledRows) -> LabelledRows:
        """The rows that the fold learns from."""
        return fold_rows(rows, (rows.times >= self.train_start) & (rows.times < self.train_end))

    def test(self, rows: LabelledRows) -> LabelledRows:
        """The rows that it is judged on."""
        return fold_rows(rows, (rows.times >= self.test_start) & (rows.times < self.test_end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Folds:
    """The folds, oldest first; `shortened` says why they are not those of the protocol."""

    folds: tuple[Fold, ...]
    shortened: str | None = None


def prequential_folds(start: int, end: int, protocol: Protocol) -> Folds:
    """As many folds as fit into `[start, end)`, the youngest ones.

    A span too short for one fold is cut without a delay: better than no validation, and said.
    """
    days = (end - start) / MICROS_PER_DAY
    fitting = int((days - protocol.days) // protocol.test_days) + 1 if days >= protocol.days else 0
    if fitting:
        last = end - protocol.days * MICROS_PER_DAY
        step = protocol.test_days * MICROS_PER_DAY
        starts = [last - step * back for back in reversed(range(min(fitting, protocol.folds)))]
        return Folds(folds=tuple(_fold(at, protocol) for at in starts))
    quarter = (end - start) // _QUARTERS
    edges = [(end - quarter * (3 + back), end - quarter * (1 + back), end - quarter * back) for back in (1, 0)]
    return Folds(
        folds=tuple(Fold(first, cut, cut, last) for first, cut, last in edges),
        shortened=f"{days:.3g} days hold no fold of {protocol.days} days: folds without a label delay",
    )


def _fold(start: int, protocol: Protocol) -> Fold:
    train_end = start + protocol.train_days * MICROS_PER_DAY
    test_start = train_end + protocol.delay_days * MICROS_PER_DAY
    return Fold(start, train_end, test_start, test_start + protocol.test_days * MICROS_PER_DAY)


def fold_rows(rows: LabelledRows, wanted: NDArray[np.bool_]) -> LabelledRows:
    """Some of the rows."""
    return LabelledRows(
        inputs=rows.inputs[wanted], labels=rows.labels[wanted], groups=rows.groups[wanted], times=rows.times[wanted]
    )
