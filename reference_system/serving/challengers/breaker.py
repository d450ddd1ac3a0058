"""The breaker of a challenger: stops it within a few requests, long before anybody reads a log.

In: what each of its requests took, and its errors. Out: `reason`, once it is open.
Invariant: once open it stays open for this plan; a decision about the release is the controller's.

Times are CPU time of the thread that scored: a busy machine makes no model look slow.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

# Of the last hundred requests not three may fail, and not three may be slower than the limit: so the p99 is below it.
WINDOW, MOST = 100, 3
# Times the champion's own p99, where that is above the budget.
TIMES_CHAMPION = 3.0


class Breaker:
    """Counts what went wrong in the last `WINDOW` requests of one challenger."""

    def __init__(self, budget_seconds: float, tripped: Callable[[str], None]) -> None:
        """Closed; `tripped` hears of the opening, once."""
        self._budget = budget_seconds
        self._tripped = tripped
        self._failed: deque[bool] = deque(maxlen=WINDOW)
        self._slow: deque[bool] = deque(maxlen=WINDOW)
        self._champion: deque[float] = deque(maxlen=WINDOW)
        # The event loop and the shadow's thread both report.
        self._lock = threading.Lock()
        self.reason: str | None = None

    def took(self, seconds: float) -> None:
        """The challenger scored a request."""
        limit = max(self._budget, TIMES_CHAMPION * self._champion_p99()) if seconds > self._budget else self._budget
        slow = seconds > limit
        with self._lock:
            self._failed.append(False)
            self._slow.append(slow)
            count = sum(self._slow) if slow else 0
        if count >= MOST:
            self._open(f"slow: {count} of its last {len(self._slow)} requests took more than {limit * 1000:.1f} ms")

    def failed(self) -> None:
        """The challenger raised, or gave what is no score."""
        with self._lock:
            self._failed.append(True)
            count = sum(self._failed)
        if count >= MOST:
            self._open(f"errors: {count} of its last {len(self._failed)} requests failed")

    def champion_took(self, seconds: float) -> None:
        """The champion scored a request."""
        self._champion.append(seconds)

    def _champion_p99(self) -> float:
        times = sorted(self._champion.copy())
        return times[int(0.99 * (len(times) - 1))] if times else 0.0

    def _open(self, reason: str) -> None:
        with self._lock:
            if self.reason is not None:
                return
            self.reason = reason
        self._tripped(reason)
