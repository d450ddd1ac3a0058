"""What the service does beside answering: follow champions and plans, refresh the catalogues, mend the feature store.

In: champions, challengers, feature reads, the clock. Out: `catalogue` and `ranking_challenger`, replaced whole.
Invariant: nothing here is waited for by a request; what fails is said once and tried again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Protocol

from reference_system.clock import Clock
from reference_system.serving.challengers.traffic import Challenger, Challengers
from reference_system.serving.champions import Champion
from reference_system.serving.feature_reads import FeaturesUnavailable, GuardedReads
from reference_system.serving.fraud.scoring import FraudModel
from reference_system.serving.recommendation.catalogue import (
    RankerModel,
    ServedCatalogue,
    catalogue_without_states,
    refresh_catalogue,
)
from reference_system.serving.structured_log import log_place
from reference_system.use_cases.recommendation.features import NEWEST_VIDEOS
from reference_system.windows import EVERYONE

_TICK_SECONDS = 1.0
_ALIAS_SECONDS = 3.0
_REFRESH_SECONDS = 10.0


class ServiceReport(Protocol):
    """Where events are written."""

    def __call__(self, event: str, **fields: str | float | bool | None) -> None:
        """One event."""
        ...


@dataclass(slots=True, kw_only=True)
class Housekeeping:
    """The background work of one service."""

    fraud: Champion[FraudModel]
    recommendation: Champion[RankerModel]
    fraud_challengers: Challengers[FraudModel]
    ranking_challengers: Challengers[RankerModel]
    reads: GuardedReads  # of requests
    bulk_reads: GuardedReads  # of the catalogue, on a connection of its own: no request waits for two thousand videos
    clock: Clock
    report: ServiceReport
    catalogue: ServedCatalogue | None = None
    ranking_challenger: Challenger[ServedCatalogue] | None = None
    _alias_at: float = 0.0
    _refresh_at: float = 0.0
    _features_up: bool | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def prepare(self) -> None:
        """Load what is on this machine; the registry is asked later, so that a missing one delays nothing."""
        self._each(self.fraud.poll_pointer, self.recommendation.poll_pointer, self._mend_features)
        self._each(partial(self._refresh, monotonic()))

    def start(self) -> None:
        """Go on in the background."""
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the background work; what it is doing now is abandoned with the process."""
        self._stopping.set()

    def tick(self, now: float) -> None:
        """One round at the monotonic time `now`."""
        self._each(self._mend_features, self.fraud.poll_pointer, self.recommendation.poll_pointer)
        if now >= self._alias_at:
            self._alias_at = now + _ALIAS_SECONDS
            self._each(self.fraud.poll_alias, self.recommendation.poll_alias)
        self._each(self.fraud_challengers.poll, self.ranking_challengers.poll)
        if self.ranking_challengers.current is None:
            self.ranking_challenger = None
        loaded = self.recommendation.current
        new_model = loaded is not None and (self.catalogue is None or self.catalogue.model is not loaded.model)
        recovered = self.catalogue is not None and self.catalogue.tails is None and self.bulk_reads.failure is None
        if new_model or recovered or self._is_new_beside or now >= self._refresh_at:
            self._each(partial(self._refresh, now))

    @property
    def missing(self) -> list[str]:
        """The use cases that cannot be answered yet."""
        found = {"fraud": self.fraud.current, "recommendation": self.catalogue}
        return [use_case for use_case, loaded in found.items() if loaded is None]

    @property
    def beside(self) -> list[str]:
        """Who stands beside the champions, in words."""
        found = {"fraud": self.fraud_challengers.current, "recommendation": self.ranking_challengers.current}
        return [
            f"{use_case}: version {each.version} as {each.plan.mode}"
            + (f", stopped ({each.breaker.reason})" if each.breaker.reason else "")
            for use_case, each in found.items()
            if each is not None
        ]

    @property
    def _is_new_beside(self) -> bool:
        beside = self.ranking_challengers.current
        before = self.ranking_challenger
        # A loaded challenger and what was made of it share the breaker.
        return beside is not None and (before is None or before.breaker is not beside.breaker)

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            self.tick(monotonic())

    def _each(self, *steps: Callable[[], None]) -> None:
        """Take every step, whatever the others met: no use case waits for another, and the thread goes on."""
        for step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001 - as said
                self.report("housekeeping_failed", error=log_place(error))

    def _mend_features(self) -> None:
        self.bulk_reads.heal(NEWEST_VIDEOS, EVERYONE)
        up = self.reads.heal(NEWEST_VIDEOS, EVERYONE)
        if up != self._features_up:
            self.report("features_up" if up else "features_down", reason=self.reads.failure)
        self._features_up = up

    def _refresh(self, now: float) -> None:
        self._refresh_at = now + _REFRESH_SECONDS
        loaded, beside, before = self.recommendation.current, self.ranking_challengers.current, self.ranking_challenger
        if loaded is not None:
            self.catalogue = self._catalogue_of(loaded.model, self.catalogue)
        if beside is not None:
            catalogue = self._catalogue_of(beside.model, None if before is None else before.model)
            self.ranking_challenger = Challenger(plan=beside.plan, model=catalogue, breaker=beside.breaker)

    def _catalogue_of(self, model: RankerModel, before: ServedCatalogue | None) -> ServedCatalogue:
        try:
            return refresh_catalogue(model, self.bulk_reads, self.clock.now())
        except (FeaturesUnavailable, ValueError) as error:
            self.report("catalogue_not_refreshed", reason=str(error))
            # A catalogue of minutes ago ranks better than none; only a new model cannot use it.
            return before if before is not None and before.model is model else catalogue_without_states(model)
