"""Reads of feature states that fail fast and heal by themselves.

In: a function that opens the feature store. Out: states by key, or `FeaturesUnavailable` at once while it is broken.
Invariant: after a failure no request waits for the store again until `heal` has opened a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reference_system.errors import ServiceError
from reference_system.windows import View

# What one read may take. A local read takes well under a millisecond; ten times a bad one is a broken store.
DEADLINE_SECONDS = 0.05

StateFound = tuple[bytes | None, int | None]
ReadStates = Callable[[View, Sequence[str]], list[StateFound]]


class FeaturesUnavailable(ServiceError):  # noqa: N818 - a state of the service, like the other refusals
    """The online store did not answer in time, or not with what was stored."""


class GuardedReads:
    """A feature store that a request can ask without fear."""

    def __init__(self, open_reads: Callable[[], ReadStates], *, monotonic: Callable[[], float]) -> None:
        """Nothing is opened yet: the first `heal` does it."""
        self._open = open_reads
        self._monotonic = monotonic
        self._read: ReadStates | None = None
        self.failure: str | None = "not opened yet"

    def __call__(self, view: View, keys: Sequence[str]) -> list[StateFound]:
        """The states of the keys.

        Raises:
            FeaturesUnavailable: if the store is broken, fails now, or answers too late.
        """
        if self._read is None:
            raise FeaturesUnavailable(f"the online store is unavailable: {self.failure}")
        before = self._monotonic()
        try:
            found = self._read(view, keys)
        except Exception as error:  # Feast, SQLite and protobuf each raise types of their own
            raise self._broken(f"{type(error).__name__}: {error}") from error
        if self._monotonic() - before > DEADLINE_SECONDS:
            raise self._broken(f"{view.name} took longer than {DEADLINE_SECONDS} s")
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
        self._read, self.failure = None, reason
        return FeaturesUnavailable(f"the online store is unavailable: {reason}")
