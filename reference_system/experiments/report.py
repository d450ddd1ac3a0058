"""The report of an experiment as of one time.

In: figures of the analysis. Out: one record, which a stopped experiment keeps.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

Sure = Literal["better", "worse"]


class ArmResult(msgspec.Struct, frozen=True, kw_only=True):
    """The viewers of one arm; `metric` is that of the analysed ones, `None` if there are none."""

    version: str
    viewers: int  # exposed
    exposures: int
    other_version: int  # exposures that another version answered
    analysed: int  # viewers whose window has ended, with a page in it
    metric: float | None


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True):
    """The check of the sample ratio: `p_value` is valid at any time, `chi_square_p` once."""

    expected_share: float
    found_share: float
    p_value: float
    chi_square_p: float
    broken: bool


class EffectPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The effect as known at one time, from the viewers until then."""

    event_timestamp: datetime
    viewers: int
    effect: float
    low: float
    high: float


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Treatment less control in the metric's unit; `low` and `high` are a 95 % confidence sequence."""

    value: float
    low: float
    high: float
    relative: float | None  # of the control's metric; `None` where that is zero
    sure: Sure | None
    sure_since: datetime | None
    viewers_needed: int | None  # additional ones, if nothing is sure yet and the effect is as large as it looks
    decided_around: datetime | None


class ExperimentReport(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as of one event time.

    The effect is `None` before both arms have enough viewers, or if all outcomes are equal. It is adjusted by earlier
    activity (CUPED) if `variance_reduction` is a number: the share of the variance that this removed.
    """

    as_of: datetime
    control: ArmResult
    treatment: ArmResult
    waiting: int  # exposed viewers whose window has not ended
    without_page: int  # exposed viewers without a page: trials and load tests
    effect: Effect | None
    sample_ratio: SampleRatio | None
    variance_reduction: float | None
    usable: bool
    verdict: str
    notes: tuple[str, ...]
    course: tuple[EffectPoint, ...]
