"""Guardrails: what counts as harm, and what is still missing, while a version is being released.

In: evidence from the logs of one release. Out: harms (each a sentence; one is enough to go back), and what must still
be seen before it may go on.
Invariant: what is only possible is no harm and no proof: a difference counts once its interval excludes zero, and a
stage that nobody used never ends well.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from reference_system.use_cases.fraud.policy import MAX_ALERT_SHARE

# Times that a challenger may alert as often as the champion; where the champion hardly alerts, times the budget.
_MORE_ALERTS, _MORE_THAN_BUDGET = 3.0, 5.0
# Times that it may alert less often, once the champion has alerted so often that silence is no accident.
_FEWER_ALERTS, _ALERTS_TO_MISS = 5.0, 20
# A model that sees the same requests as another and tells fewer of them apart than this knows only one answer.
_DISTINCT_SCORES = 3
# Videos that a challenger's pages have among them, as a share of those on the champion's pages for the same requests.
_VARIETY = 0.2
_ERRORS, _ERROR_SHARE = 3, 0.01
# Errors and refusals count at once, as differences only from so many requests on.
_FEW = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long a stage lasts, and what it must have seen by then."""

    shadow: timedelta
    canary: timedelta
    share: float
    latency_budget_ms: float
    deadline: timedelta = timedelta(days=10)
    pairs: int = 300
    canary_answers: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDifference:
    """Challenger minus champion, with bounds that the truth leaves once in 500 looks, on either side."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeDifference:
    """What happened afterwards: fewer than enough outcomes give no difference yet.

    `what` says in words what is compared; `count` is how many frauds were reported, or pages shown.
    """

    what: str
    count: int
    difference: MetricDifference | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestComparison:
    """Both models on the same requests. Fields of the other use case are `None`.

    `alerts` are shares of payments that would be reviewed or blocked; `variety` is the challenger's number of
    different videos divided by the champion's. `psi` is for people: two good models whose scores have different forms
    (a few steps, a smooth curve) have one as large as a good and a broken model have, so nothing is decided by it.
    """

    scoring_p99_ms: float
    champion_scoring_p99_ms: float | None
    psi: float
    distinct_scores: int
    champion_distinct_scores: int
    alerts: float | None = None
    champion_alerts: float | None = None
    variety: float | None = None
    outcomes: tuple[OutcomeDifference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a release now.

    `champion` is the version that the pointer names. What serving says of itself (`refused`, `tripped`, `errors`,
    `dropped`) begins anew when it restarts; everything else comes from the lake.
    """

    champion: str | None
    serving: bool
    refused: bool = False
    tripped: str | None = None
    errors: int = 0
    dropped: int = 0
    pairs: int = 0
    canary_answers: int = 0
    comparison: RequestComparison | None = None
    more: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """The numbers that a decision keeps."""
        found: dict[str, float | None] = {
            "pairs": self.pairs,
            "canary_answers": self.canary_answers,
            "errors": self.errors,
            "dropped": self.dropped,
        }
        if self.comparison is not None:
            both = self.comparison
            found |= {
                "psi": both.psi,
                "scoring_p99_ms": both.scoring_p99_ms,
                "champion_scoring_p99_ms": both.champion_scoring_p99_ms,
                "alerts": both.alerts,
                "champion_alerts": both.champion_alerts,
                "variety": both.variety,
            }
            found |= {each.what: each.difference.middle for each in both.outcomes if each.difference is not None}
        return {name: float(value) for name, value in (found | self.more).items() if value is not None}


def harms(evidence: Evidence, policy: Policy) -> list[str]:
    """Everything that is surely wrong."""
    found = []
    if evidence.refused:
        found.append("serving refuses the bundle")
    if evidence.tripped is not None:
        found.append(f"serving stopped it: {evidence.tripped}")
    asked = evidence.pairs + evidence.canary_answers + evidence.errors
    if evidence.errors >= _ERRORS and evidence.errors > _ERROR_SHARE * asked:
        found.append(f"{evidence.errors} errors in {asked} requests")
    if evidence.comparison is not None and evidence.pairs >= _FEW:
        found += _harms_on_the_same_requests(evidence.comparison, policy)
        found += _harms_of_alerts(evidence.comparison, evidence.pairs)
        found += [
            f"{each.what}: surely worse, by {-each.difference.middle:.4f} (at least {-each.difference.high:.4f})"
            for each in evidence.comparison.outcomes
            if each.difference is not None and each.difference.high < 0.0
        ]
    return found


def missing(evidence: Evidence, policy: Policy, *, stage: Literal["shadow", "canary"]) -> list[str]:
    """What must still be seen in this stage."""
    found = []
    if not evidence.serving:
        found.append("serving does not answer")
    if evidence.pairs < policy.pairs:
        found.append(f"{evidence.pairs} of {policy.pairs} requests scored by both models")
    if stage == "canary" and evidence.canary_answers < policy.canary_answers:
        found.append(f"{evidence.canary_answers} of {policy.canary_answers} answers given by the challenger")
    return found


def _harms_on_the_same_requests(both: RequestComparison, policy: Policy) -> list[str]:
    found = []
    limit = max(policy.latency_budget_ms, 3.0 * (both.champion_scoring_p99_ms or 0.0))
    if both.scoring_p99_ms > limit:
        found.append(f"it needs {both.scoring_p99_ms:.2f} ms to score (p99), more than {limit:.2f} ms")
    if both.distinct_scores < _DISTINCT_SCORES <= both.champion_distinct_scores:
        found.append("it gives everybody the same score")
    if both.variety is not None and both.variety < _VARIETY:
        found.append(f"its pages have {both.variety:.0%} of the champion's variety of videos")
    return found


def _harms_of_alerts(both: RequestComparison, pairs: int) -> list[str]:
    if both.alerts is None or both.champion_alerts is None:
        return []
    limit = max(_MORE_ALERTS * both.champion_alerts, _MORE_THAN_BUDGET * MAX_ALERT_SHARE)
    if both.alerts > limit:
        return [f"it alerts on {both.alerts:.1%} of payments, the bound is {limit:.1%}"]
    if both.champion_alerts * pairs >= _ALERTS_TO_MISS and both.alerts * _FEWER_ALERTS < both.champion_alerts:
        return [f"it alerts on {both.alerts:.2%} of payments, the champion on {both.champion_alerts:.2%}"]
    return []
