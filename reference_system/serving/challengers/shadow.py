"""The shadow: what the other model would have answered, scored after the answer, logged and shown to nobody.

In: jobs from the event loop. Out: records for the topic `shadow-predictions`.
Invariant: `add` only appends to a bounded list in memory; what does not fit is dropped and counted. The thread rests
as long as it works, so the shadow takes at most half a core and the event loop waits for it at most a moment.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

# Jobs that may wait; each holds one request's inputs.
_MAX_WAITING = 512
_LOOK_SECONDS = 0.02
# Even the shortest rest lets the event loop have the interpreter.
_SHORTEST_REST_SECONDS = 0.0002


class Shadow:
    """One background thread for the shadow jobs of all use cases."""

    def __init__(self) -> None:
        """Nothing runs before `start`."""
        self._waiting: deque[Callable[[], None]] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def add(self, job: Callable[[], None]) -> bool:
        """Take a job that never raises; false if there is no room. Never waits."""
        if len(self._waiting) >= _MAX_WAITING:
            return False
        self._waiting.append(job)
        return True

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End after the job at hand; what waits is dropped with the process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def work(self, rest: Callable[[float], object] = time.sleep) -> None:
        """Do the jobs that wait, resting between them."""
        while self._waiting and not self._stopping.is_set():
            started = time.perf_counter()
            self._waiting.popleft()()
            rest(max(time.perf_counter() - started, _SHORTEST_REST_SECONDS))

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            self.work()
