"""What monitoring needs of a use case, and where it finds it: `flows/monitoring/<use case>.py`, in `CASE`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reference_system.monitoring.monitoring_run import MonitoringRun
from reference_system.monitoring.report.record import UseCaseReport
from reference_system.settings import Settings
from reference_system.use_case import UseCase, case_module

# Performance is shown for so many days.
PERFORMANCE_DAYS = 35


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What was found, and from how many outcomes with mature labels; `what` is the word for them."""

    report: UseCaseReport
    outcomes: int
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoredCase:
    """One use case, as monitoring sees it."""

    watch: Callable[[Settings, MonitoringRun], Watched]


def monitored_case(use_case: UseCase) -> MonitoredCase:
    """What monitoring needs of the use case.

    Raises:
        WorkbookError: if there is no such use case.
    """
    case: MonitoredCase = case_module(__package__, use_case).CASE
    return case
