"""When the outcome of an impression is known.

A video that was shown counts as watched if at least half of it was seen within the attribution window. An
impression without such a watch is a negative once the window has passed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

ATTRIBUTION = timedelta(days=1)
MIN_COMPLETION = 0.5


def is_mature(event_timestamp: datetime, *, as_of: datetime) -> bool:
    """Whether the outcome of the impression is final at `as_of`."""
    return event_timestamp + ATTRIBUTION <= as_of
