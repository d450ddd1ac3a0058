"""Numbers in prose: which are quantities, what they say, and whether they state a given value.

In: text with its markup removed. Out: numbers with their multiplier, unit and written precision.
Invariant: small counts, dates, versions and names such as p99, V2 or recall@20 are no quantities; a number
with a unit, a percentage and a number of four or more digits are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Rounding is half of the last written digit; a round number may stand for one this close to it.
RELATIVE_ROUNDING = 0.01
_YEARS = range(1900, 2101)
_FOUR_DIGITS = 1000

_UNITS = {
    "%": ("%", "percent", "per cent"),
    "ns": ("ns", "nanosecond", "nanoseconds"),
    "µs": ("µs", "μs", "us", "microsecond", "microseconds"),
    "ms": ("ms", "millisecond", "milliseconds"),
    "CPU-seconds": ("CPU-s", "CPU-second", "CPU-seconds"),
    "CPU-ms": ("CPU-ms", "CPU-millisecond", "CPU-milliseconds"),
    "CPU-hours": ("CPU-h", "CPU-hour", "CPU-hours"),
    "s": ("s", "sec", "second", "seconds"),
    "min": ("min", "minute", "minutes"),
    "h": ("h", "hour", "hours"),
    "days": ("d", "day", "days"),
    "weeks": ("week", "weeks"),
    "months": ("month", "months"),
    "years": ("year", "years"),
    "bytes": ("B", "byte", "bytes"),
    "bits": ("bit", "bits"),
    "kB": ("kB", "KB"),
    **{f"{prefix}B": (f"{prefix}B",) for prefix in ("M", "G", "T", "P", "Ki", "Mi", "Gi", "Ti")},
    "cores": ("core", "cores", "vCPU", "vCPUs", "CPU", "CPUs"),
    "GPUs": ("GPU", "GPUs"),
    "requests/s": ("requests/s", "request/s", "req/s", "rps", "RPS", "qps", "QPS"),
    "Hz": ("Hz", "kHz", "MHz"),
    "$": ("dollar", "dollars", "USD"),
    "€": ("euro", "euros", "EUR"),
}
_CANONICAL = {spelling: unit for unit, spellings in _UNITS.items() for spelling in spellings}
_MULTIPLIERS = {"k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "thousand": 1e3, "million": 1e6, "billion": 1e9}

_SPELLINGS = "|".join(re.escape(spelling) for spelling in sorted(_CANONICAL, key=len, reverse=True))
_PER = r"(?:s|second|min|minute|h|hour|d|day|week|month|year|request)"
_NUMBER = re.compile(
    r"(?<![\w@#.,$€])(?P<currency>[$€])?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?:(?P<attached>[kKMB])(?!\w)|\s(?P<word>thousand|million|billion)\b)?"
    rf"(?:[\s-]?(?P<unit>{_SPELLINGS})(?!\w)"
    rf"|(?P<rate>\s?[\w-]+(?:/|\s(?:per|an?|each)\s){_PER}\b|/{_PER}\b))?"
    r"(?!\w|[.,]\d)",
)
# ISO dates, times of day, versions, numbered standards.
_NO_QUANTITY = re.compile(
    r"\b\d{4}-\d{2}(?:-\d{2})?\b|\b\d{1,2}:\d{2}(?::\d{2})?\b|\b\d+(?:\.\d+){2,}\b|\b(?:ISO|RFC|KIP)[ -]\d+\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A number as written."""

    text: str
    value: float
    last_digit: float  # what one step of the last written digit is worth
    unit: str | None  # canonical, None where no unit is written
    is_quantity: bool

    def states(self, value: float) -> bool:
        """Whether a reader who sees this number was told `value`, rounding aside."""
        if self.value == 0 or value == 0:
            return self.value == value
        return abs(self.value - value) <= max(self.last_digit / 2, RELATIVE_ROUNDING * abs(value)) * (1 + 1e-9)


def numbers_of_text(text: str) -> Iterator[Number]:
    """Every free-standing number of `text`, in order."""
    for found in _NUMBER.finditer(_NO_QUANTITY.sub(" ", text)):
        yield _number(found)


def quantities_in(text: str) -> list[Number]:
    """The numbers of `text` that must be bound."""
    return [number for number in numbers_of_text(text) if number.is_quantity]


def is_bare_quantity(text: str) -> bool:
    """Whether `text` is a number with a unit and nothing else."""
    found = _NUMBER.fullmatch(text.strip())
    return found is not None and (found["currency"] or found["unit"] or found["rate"]) is not None


def canonical_unit(unit: str) -> str | None:
    """The measure that a unit of `estimate.toml` starts with (`ms/request` → `ms`), None for counts of things."""
    whole = unit.strip()
    return _CANONICAL.get(whole) or _CANONICAL.get(re.split(r"[\s/]", whole, maxsplit=1)[0])


def _number(found: re.Match[str]) -> Number:
    digits = found["digits"].replace(",", "")
    scale = _MULTIPLIERS.get(found["attached"] or found["word"] or "", 1.0)
    decimals = len(digits.partition(".")[2])
    value = float(digits) * scale
    unit = found["currency"] or (_CANONICAL[found["unit"]] if found["unit"] else None)
    is_year = digits == found["digits"] and value in _YEARS and scale == 1.0
    has_measure = unit is not None or found["rate"] is not None
    return Number(
        text=found[0],
        value=value,
        last_digit=scale / 10**decimals,
        unit=unit,
        is_quantity=has_measure or scale > 1 or (abs(value) >= _FOUR_DIGITS and not is_year),
    )
