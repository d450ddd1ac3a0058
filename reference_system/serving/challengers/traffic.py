"""Which version stands beside the champion, and what it may do: the traffic plan, followed.

In: the plan (read about once a second), a function that verifies and loads. Out: one challenger, or none.
Invariant: the champion never depends on anything here. A plan that cannot be read, a bundle that is refused and a
challenger whose breaker has opened all mean the same: the champion answers alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from reference_system.assignment import ChallengerMode, is_in_share
from reference_system.errors import WorkbookError
from reference_system.serving.challengers.breaker import Breaker
from reference_system.serving.champions import REFUSED_SECONDS

ExperimentArm = Literal["control", "treatment"]
_Model = TypeVar("_Model")
Model_co = TypeVar("Model_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengerPlan:
    """What a version beside the champion does; `salt` and `share` say which entities it answers."""

    mode: ChallengerMode
    version: str
    name: str
    share: float
    salt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenger(Generic[Model_co]):
    """A verified version beside the champion, with its plan and the breaker that can stop it."""

    plan: ChallengerPlan
    model: Model_co
    breaker: Breaker

    @property
    def version(self) -> str:
        """The model version."""
        return self.plan.version

    def answers(self, entity: str) -> bool:
        """Whether this entity's request is the challenger's to answer."""
        if self.plan.mode == "shadow" or self.breaker.reason is not None:
            return False
        return is_in_share(entity, self.plan.salt, self.plan.share)

    @property
    def is_shadowed(self) -> bool:
        """Whether every request is scored by both models; in an experiment each viewer has one model only."""
        return self.plan.mode != "experiment" and self.breaker.reason is None

    def arm_of(self, entity: str) -> ExperimentArm | None:
        """The entity's arm while an experiment runs, whoever really answers."""
        if self.plan.mode != "experiment":
            return None
        return "treatment" if is_in_share(entity, self.plan.salt, self.plan.share) else "control"


class ChallengerListener(Protocol):
    """Who is told."""

    def planned(self, plan: ChallengerPlan | None) -> None:
        """A challenger was loaded, or there is none any more."""

    def refused(self, version: str, reason: str) -> None:
        """Its bundle was refused, or the plan cannot be read."""

    def tripped(self, version: str, reason: str) -> None:
        """Its breaker opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource(Generic[_Model]):
    """Where one use case's plan and its model come from; both may raise `WorkbookError` or `OSError`."""

    plan: Callable[[], ChallengerPlan | None]
    load: Callable[[str], _Model]  # fetches the bundle if it is not there, and verifies it


class Challengers(Generic[_Model]):
    """The challenger of one use case."""

    def __init__(
        self,
        source: PlanSource[_Model],
        heard: ChallengerListener,
        *,
        budget_seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        """Nothing is loaded before the first poll."""
        self._source = source
        self._heard = heard
        self._budget = budget_seconds
        self._monotonic = monotonic
        self._plan: ChallengerPlan | None = None
        self._again_at = float("-inf")
        self._unreadable: str | None = None
        self.current: Challenger[_Model] | None = None

    def poll(self) -> None:
        """Follow the plan if it changed; try a refused bundle again from time to time."""
        plan = self._read()
        if plan != self._plan:
            self._plan = plan
            self._again_at = float("-inf")
            if self.current is not None:
                self.current = None
                self._heard.planned(None)
        if plan is not None and self.current is None and self._monotonic() >= self._again_at:
            self._load(plan)

    def _read(self) -> ChallengerPlan | None:
        try:
            plan = self._source.plan()
        except (WorkbookError, OSError) as error:
            if self._unreadable != str(error):
                self._heard.refused("", str(error))
            self._unreadable = str(error)
            return None
        self._unreadable = None
        return plan

    def _load(self, plan: ChallengerPlan) -> None:
        try:
            model = self._source.load(plan.version)
        except (WorkbookError, OSError) as error:
            self._again_at = self._monotonic() + REFUSED_SECONDS
            self._heard.refused(plan.version, str(error))
            return

        def tripped(reason: str) -> None:
            self._heard.tripped(plan.version, reason)

        self.current = Challenger(plan=plan, model=model, breaker=Breaker(self._budget, tripped))
        self._heard.planned(plan)
