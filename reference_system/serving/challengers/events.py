"""What happens to a challenger, told: to the metrics page and to the log.

In: what `Challengers` found. Out: metrics and one line each.
"""

from __future__ import annotations

from dataclasses import dataclass

from reference_system.serving.challengers.prometheus_metrics import ChallengerMetrics
from reference_system.serving.challengers.traffic import ChallengerPlan
from reference_system.serving.structured_log import write_event


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """The news of one use case."""

    use_case: str
    metrics: ChallengerMetrics

    def planned(self, plan: ChallengerPlan | None) -> None:
        """A challenger was loaded, or there is none any more."""
        if plan is None:
            self.metrics.ended(self.use_case)
            write_event("challenger_ended", use_case=self.use_case)
            return
        self.metrics.planned(self.use_case, plan.version, plan.mode)
        write_event(
            "challenger_loaded", use_case=self.use_case, version=plan.version, mode=plan.mode, share=plan.share
        )

    def refused(self, version: str, reason: str) -> None:
        """Its bundle was refused, or the plan cannot be read."""
        self.metrics.refused(self.use_case, version)
        write_event("challenger_refused", use_case=self.use_case, version=version, reason=reason)

    def tripped(self, version: str, reason: str) -> None:
        """Its breaker opened."""
        self.metrics.tripped(self.use_case, version, reason)
        write_event("challenger_tripped", use_case=self.use_case, version=version, reason=reason)
