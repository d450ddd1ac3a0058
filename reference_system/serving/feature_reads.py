"""Reads of feature states that fail fast and heal by themselves.

In: a function that opens the feature store. Out: states by key, or `FeaturesUnavailable` at once while it is broken.
Invariant: after a failure no request waits for the store again until `heal` has opened a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reference_system.errors import ServiceError
from reference_system.states import StateFound
from reference_system.windows import View

# What one read may take: for a request (usually far below a millisecond), and for the whole catalogue at once.
DEADLINE_SECONDS = 0.05
BULK_DEADLINE_SECONDS = 5.0
# One late read is a busy machine, and its answer is there: it is used. So many in a row are a slow store.
LATE_READS = 3

# The states of keys: of one view, or, with a tuple, of a view for each key, which are read as of one moment.
ReadStates = Callable[[View | tuple[View, ...], Sequence[str]], list[StateFound]]


class FeaturesUnavailable(ServiceError):  # noqa: N818 - a state of the service, like the other refusals
    """The online store did not answer in time, or not with what was stored."""


class GuardedReads:
    """A feature store that a request can ask without fear."""

    def __init__(
        self,
        open_reads: Callable[[], ReadStates],
        *,
        monotonic: Callable[[], float],
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        """Nothing is opened yet: the first `heal` does it."""
        self._deadline = deadline_seconds
        self._open = open_reads
        self._monotonic = monotonic
        self._read: ReadStates | None = None
        self._late = 0
        self.failure: str | None = "not opened yet"

    def __call__(self, view: View | tuple[View, ...], keys: Sequence[str]) -> list[StateFound]:
        """The states of the keys.

        Raises:
            FeaturesUnavailable: if the store is broken, fails now, or answers late again and again.
        """
        if self._read is None:
            raise FeaturesUnavailable(f"the online store is unavailable: {self.failure}")
        before = self._monotonic()
        try:
            found = self._read(view, keys)
        except Exception as error:  # Feast, SQLite and protobuf each raise types of their own
            raise self._broken(f"{type(error).__name__}: {error}") from error
        self._late = self._late + 1 if self._monotonic() - before > self._deadline else 0
        if self._late == LATE_READS:
            raise self._broken(f"{LATE_READS} reads in a row took longer than {self._deadline} s")
        return found

    def heal(self, probe: View, key: str) -> bool:
        """Open the store again if it is broken; whether it works now. For a background thread.

        The new store must answer one read before requests see it.
        """
        if self._read is not None:
            return True
        try:
            read = self._open()
            read(probe, [key])
        except Exception as error:  # noqa: BLE001 - as above; the reason is kept for the log
            self.failure = f"{type(error).__name__}: {error}"
            return False
        self._read, self.failure = read, None
        return True

    def _broken(self, reason: str) -> FeaturesUnavailable:
        self._read, self._late, self.failure = None, 0, reason
        return FeaturesUnavailable(f"the online store is unavailable: {reason}")
