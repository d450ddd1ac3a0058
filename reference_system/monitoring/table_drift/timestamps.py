"""Moments and durations in texts: what looks like one, and what it says.

In: texts of any table. Out: microseconds since 1970, seconds; nothing where a text is neither.
Invariant: whether a text looks like a moment depends on that text alone; which of two numbers is the day is not
guessed from one text, so both readings are given.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH, _DAY = r"0?[1-9]|1[0-2]", r"0?[1-9]|[12][0-9]|3[01]"
_NAME = rf"(?:{'|'.join(_MONTHS)})[a-z]*"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*,? )?"
# Two digits of a year only between slashes: between dots and hyphens they are versions and codes.
_DATE = "|".join(
    (
        rf"(?P<year_1>[0-9]{{4}})[-/.](?P<month_1>{_MONTH})(?:[-/.](?P<day_1>{_DAY}))?",
        rf"(?P<one>{_DAY})(?P<between>[-/.])(?P<two>{_DAY})[-/.](?P<year_2>[0-9]{{4}})",
        rf"(?P<one_short>{_DAY})/(?P<two_short>{_DAY})/(?P<year_short>[0-9]{{2}})",
        rf"{_WEEKDAY}(?P<day_3>{_DAY})[- ](?P<name_3>{_NAME})[- ](?P<year_3>[0-9]{{4}})",
        rf"{_WEEKDAY}(?P<name_4>{_NAME}) (?P<day_4>{_DAY}),? (?P<year_4>[0-9]{{4}})",
        r"(?P<year_5>[0-9]{4})(?P<month_5>0[1-9]|1[0-2])(?P<day_5>0[1-9]|[12][0-9]|3[01])T",
    )
)
_CLOCK = (
    r"(?:,?[T ]? *(?P<hour>[01]?[0-9]|2[0-3]):?(?P<minute>[0-5][0-9])"
    r"(?::?(?P<second>[0-5][0-9])(?:[.,](?P<fraction>[0-9]+))?)?"
    r"(?: ?(?P<half>[ap])\.?m\.?)?(?: ?(?P<zone>z|utc|gmt|[-+][0-9]{2}(?::?[0-9]{2})?))?)?"
)
_MOMENT = rf"(?:{_DATE}){_CLOCK}"
_MOMENT_TEXT = re.compile(_MOMENT, re.IGNORECASE | re.ASCII)
_SPAN = (
    r"(?:(?P<days>[-+]?[0-9]+) days?)?(?:(?:^|,? )(?P<sign>[-+]?)(?P<hours>[0-9]+):(?P<minutes>[0-5][0-9])"
    r"(?::(?P<seconds>[0-5][0-9](?:\.[0-9]+)?))?)?"
)
_SPAN_TEXT = re.compile(_SPAN, re.ASCII)
_LAST_OF_THE_CENTURY = 69
_MICROS = 6


def look_like_moments(texts: pa.Array) -> NDArray[np.bool_]:
    """Which texts, shape (n,), are written as dates or times of a day are; false where there is none."""
    return _matching(texts, _MOMENT)


def spans_of(texts: pa.Array) -> NDArray[np.float64]:
    """Seconds of what is written as `8:21:00`, `0 days 00:08:21` or `3 days`; NaN elsewhere; shape (n,)."""
    found = np.full(len(texts), np.nan)
    for place in np.flatnonzero(_matching(texts, _SPAN)).tolist():
        match = _SPAN_TEXT.fullmatch(texts[place].as_py())
        if match is not None and (match["days"] or match["hours"]):
            hours, minutes, seconds = (float(match[name] or 0) for name in ("hours", "minutes", "seconds"))
            clock = 3_600.0 * hours + 60.0 * minutes + seconds
            found[place] = 86_400.0 * float(match["days"] or 0) + (-clock if match["sign"] == "-" else clock)
    return found


def moments_of_text(text: str) -> tuple[int | None, int | None]:
    """Microseconds since 1970, in UTC where no zone is given: with the day before the month, and after it."""
    try:
        found = _micros(datetime.fromisoformat(text))
    except ValueError:
        match = _MOMENT_TEXT.fullmatch(text)
        return (None, None) if match is None else _readings(match.groupdict())
    return found, found


def _readings(part: dict[str, str]) -> tuple[int | None, int | None]:
    year = part["year_1"] or part["year_2"] or part["year_3"] or part["year_4"] or part["year_5"]
    one, two = part["one"] or part["one_short"], part["two"] or part["two_short"]
    if part["year_short"]:
        short = int(part["year_short"])
        year = str(short + (2000 if short < _LAST_OF_THE_CENTURY else 1900))
    if one:
        day_first = _moment(int(year), int(two), int(one), part)
        # Between dots the day stands first, wherever it is written so.
        return day_first, day_first if part["between"] == "." else _moment(int(year), int(one), int(two), part)
    name = part["name_3"] or part["name_4"]
    month = _MONTHS.index(name[:3].lower()) + 1 if name else int(part["month_1"] or part["month_5"])
    day = part["day_1"] or part["day_3"] or part["day_4"] or part["day_5"] or 1
    either = _moment(int(year), month, int(day), part)
    return either, either


def _moment(year: int, month: int, day: int, part: dict[str, str]) -> int | None:
    hour = int(part["hour"] or 0)
    if part["half"]:
        hour = hour % 12 + (12 if part["half"].lower() == "p" else 0)
    fraction = int((part["fraction"] or "0")[:_MICROS].ljust(_MICROS, "0"))
    clock = (hour, int(part["minute"] or 0), int(part["second"] or 0), fraction)
    try:
        return _micros(datetime(year, month, day, *clock, tzinfo=timezone(_offset(part["zone"]))))
    except ValueError:
        return None


def _micros(at: datetime) -> int:
    # Subtracted by hand: turning the first hours of year 1 into UTC would overflow.
    return (at.replace(tzinfo=UTC) - _EPOCH - (at.utcoffset() or timedelta(0))) // timedelta(microseconds=1)


def _offset(zone: str | None) -> timedelta:
    if zone is None or zone[0] not in "+-":
        return timedelta(0)
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (1 if zone[0] == "+" else -1) * timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))


def _matching(texts: pa.Array, pattern: str) -> NDArray[np.bool_]:
    found = pc.match_substring_regex(texts, f"^(?:{pattern})$", ignore_case=True)
    return np.asarray(found.fill_null(False).to_numpy(zero_copy_only=False))
