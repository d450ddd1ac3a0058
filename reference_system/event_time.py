"""Event time as a number: microseconds since 1970, UTC, as a whole number, so that sums and edges are exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MICROS_PER_SECOND = 1_000_000
MICROS_PER_DAY = 86_400 * MICROS_PER_SECOND
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime."""
    return (moment - _EPOCH) // MICRO


def moment_of(time: int) -> datetime:
    """The inverse of `micros`: an aware UTC datetime."""
    return _EPOCH + time * MICRO
