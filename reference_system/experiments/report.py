"""What is known about an experiment at a moment, and how it is said.

In: figures of the analysis. Out: one record, which is also what a stopped experiment keeps.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

Sure = Literal["better", "worse"]


class ArmResult(msgspec.Struct, frozen=True, kw_only=True):
    """The viewers who got one version; `metric` is that of the analysed ones, `None` where there are none."""

    version: str
    viewers: int  # exposed
    exposures: int
    other_version: int  # of the exposures that another version answered
    analysed: int  # whose window has ended, with a page in it
    metric: float | None


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """Whether chance made the arms: `p_value` may be looked at at any time, `chi_square_p` once."""

    expected_share: float
    found_share: float
    p_value: float
    chi_square_p: float
    broken: bool


class EffectPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The effect as it was known at a moment, from so many viewers."""

    event_timestamp: datetime
    viewers: int
    effect: float
    low: float
    high: float


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Treatment less control in the metric's unit; `low` and `high` hold at every moment at once (95 %)."""

    value: float
    low: float
    high: float
    relative: float | None  # of the control's metric; `None` where that is zero
    sure: Sure | None
    sure_since: datetime | None
    viewers_needed: int | None  # more, if the effect is as large as it looks and nothing is sure yet
    decided_around: datetime | None


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as of a moment of event time.

    The effect is `None` before both arms have enough viewers, or where all of them did the same. It is adjusted by
    what viewers did before if `variance_reduction` is a number: the share of the variance that this took away.
    """

    as_of: datetime
    control: ArmResult
    treatment: ArmResult
    waiting: int  # exposed viewers whose window has not ended
    without_page: int  # exposed viewers of whom no page was seen: trials and load tests
    effect: Effect | None
    sample_ratio: SampleRatio | None
    variance_reduction: float | None
    usable: bool
    verdict: str
    notes: tuple[str, ...]
    course: tuple[EffectPoint, ...]
