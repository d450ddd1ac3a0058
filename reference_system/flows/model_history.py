"""What has been decided about models, as monitoring needs it; and what monitoring decides, for the promotion log.

In: the promotion log, releases, traffic plans. Out: the past that the retraining policy looks at; alarms as decisions.
Invariant: an alarm is logged when it begins, not again at every look that still sees it; so is the reason for which
scheduled trainings are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from reference_system.monitoring.report.record import Finding, FindingKind, MonitoringReport, UseCaseReport
from reference_system.monitoring.retraining import Past, RetrainDecision
from reference_system.registry.bundles.bundle import current_version
from reference_system.registry.promotion_log import LoggedDecision, append_decision, read_decisions
from reference_system.registry.release.releases import read_release
from reference_system.registry.traffic import read_plan

# Findings about models, which the log is about; faults of the data are in the report alone.
_ABOUT_MODELS = ("performance", "outcomes", "drift")


def past_of(root: Path, use_case: str) -> Past:
    """What was done about a use case's alarms, when a candidate was last judged, and what is under way."""
    last, fruitless, candidate = None, 0, None
    for decision in read_decisions(root, use_case):
        if decision.kind == "retraining":
            last, fruitless = decision.event_timestamp, fruitless + 1
        elif decision.kind == "gate":
            candidate = decision.event_timestamp
        elif decision.kind in ("shadow", "champion"):
            fruitless = 0
    return Past(
        champion=current_version(root, use_case),
        last=last,
        fruitless=fruitless,
        candidate=candidate,
        busy=_busy(root, use_case),
    )


def previous_champion(root: Path, use_case: str) -> str | None:
    """The version that answered before the present champion, if there was one."""
    present = current_version(root, use_case)
    before = [one.previous for one in read_decisions(root, use_case) if one.kind == "champion"]
    return next((version for version in reversed(before) if version not in (None, present)), None)


def logged_alarms(
    findings: Sequence[Finding], last: MonitoringReport | None, *, act: bool
) -> tuple[tuple[str, FindingKind], ...]:
    """The findings about models that are in the log after this look: all, or without acting those that were before."""
    now = dict.fromkeys((finding.use_case, finding.kind) for finding in findings if finding.kind in _ABOUT_MODELS)
    return tuple(each for each in now if act or (last is not None and each in last.logged))


def log_alarms(root: Path, report: MonitoringReport, last: MonitoringReport | None) -> None:
    """Add the alarms that are not in the log yet."""
    known = last.logged if last else ()
    for case in report.use_cases:
        begun = [
            finding
            for finding in report.findings
            if finding.use_case == case.use_case
            and finding.kind in _ABOUT_MODELS
            and (finding.use_case, finding.kind) not in known
        ]
        if begun:
            append_decision(root, _alarm(case, begun, report.as_of))


def log_retraining(root: Path, decision: RetrainDecision, *, now: datetime) -> None:
    """Add that a training starts, before it does: one that crashes counts for the policy like any other."""
    champion = current_version(root, decision.use_case)
    reasons = (f"because of {decision.trigger}", decision.reason)
    append_decision(
        root,
        LoggedDecision(
            event_timestamp=now, use_case=decision.use_case, kind="retraining", previous=champion, reasons=reasons
        ),
    )


def log_skipped(root: Path, use_case: str, reason: str, *, now: datetime) -> None:
    """Add that a scheduled training was left out, once for each reason: the next ones say nothing new."""
    skipped = [one for one in read_decisions(root, use_case) if one.kind == "skipped"]
    if skipped and skipped[-1].reasons == (reason,):
        return
    champion = current_version(root, use_case)
    append_decision(
        root,
        LoggedDecision(event_timestamp=now, use_case=use_case, kind="skipped", previous=champion, reasons=(reason,)),
    )


def _alarm(case: UseCaseReport, begun: Sequence[Finding], now: datetime) -> LoggedDecision:
    early = case.performance.early
    figures: dict[str, float] = {"drifted_columns": float(len(case.drifted))}
    if early is not None:
        known = {
            "reported": early.outcomes.reported,
            "usual": early.outcomes.usual,
            "bound": early.outcomes.bound,
            "missed": early.missed,
        }
        figures |= {name: float(value) for name, value in known.items() if value is not None}
    return LoggedDecision(
        event_timestamp=now,
        use_case=case.use_case,
        kind="alarm",
        previous=case.champion,
        reasons=tuple(f"{finding.kind}: {finding.text}" for finding in begun),
        figures=figures,
    )


def _busy(root: Path, use_case: str) -> str | None:
    release, plan = read_release(root, use_case), read_plan(root, use_case)
    if release is not None:
        return f"the release of version {release.version} ({release.stage})"
    return None if plan is None else f"the {plan.mode} {plan.name}"
