"""The temporal split: learn from the past, be judged on what came after.

    train ──────────────► gap ──► test ──────► maturity ──► as_of

The gap is the label delay: a model that goes live when the test window begins could not know the outcomes of the
days just before. The maturity lets the outcomes of the test window arrive.

After an alarm that is too slow: with a label delay of a week such a training ends three weeks ago, and what the world
began to do yesterday is in none of its rows. A fresh split has neither gap nor, for fraud, maturity: it learns from
the labels that were reported so far, up to the last days, which judge it.

In: a moment. Out: windows. Invariant: training ends before `test` begins; where `held_out` is set, training has none
of the entities of that share, and so may overlap the windows that judge by them.
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
    """Where a model learns and where it is judged, as of one moment.

    `mature` is a second window that judges: older, with every label. `is_fresh` splits take labels as they are known
    at `as_of`. `held_out` is the share of entities that training never sees; before the last days the evaluation uses
    them alone.
    """

    train: Span
    test: Span
    as_of: datetime
    mature: Span | None = None
    is_fresh: bool = False
    held_out: float = 0.0


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


def fresh_split(
    as_of: datetime, *, until: datetime, train_days: int, test_days: int, maturity: timedelta
) -> TemporalSplit:
    """The split that sees the most of what happened lately.

    Args:
        as_of: labels are taken as they are known then.
        until: up to where features are known.
        train_days: how long to learn.
        test_days: how long to be judged, right after.
        maturity: how old the newest row must be; 0 where unreported means genuine for now.
    """
    test_end = min(until, as_of - maturity)
    test_start = test_end - timedelta(days=test_days)
    return TemporalSplit(
        train=Span(start=test_start - timedelta(days=train_days), end=test_start),
        test=Span(start=test_start, end=test_end),
        as_of=as_of,
        is_fresh=True,
    )
