"""The temporal split: learn from the past, be judged on what came after.

    train ──────────────► gap ──► test ──────► maturity ──► as_of

The gap is the label delay: a model that goes live when the test window begins could not know the outcomes of the
days just before. The maturity lets the outcomes of the test window arrive.

In: a moment. Out: two windows. Invariant: `train.end + gap == test.start`, `test.end + maturity == as_of`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The event times `[start, end)`."""

    start: datetime
    end: datetime

    def __str__(self) -> str:
        """The way error messages name it."""
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalSplit:
    """Where a model learns and where it is judged, as of one moment."""

    train: Span
    test: Span
    as_of: datetime


def temporal_split(as_of: datetime, *, train_days: int, test_days: int, label_delay: timedelta) -> TemporalSplit:
    """The latest split whose test labels are mature at `as_of`; the label delay is both gap and maturity."""
    test_end = as_of - label_delay
    test_start = test_end - timedelta(days=test_days)
    train_end = test_start - label_delay
    return TemporalSplit(
        train=Span(start=train_end - timedelta(days=train_days), end=train_end),
        test=Span(start=test_start, end=test_end),
        as_of=as_of,
    )
