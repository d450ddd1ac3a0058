"""The retraining policy: is a model to be trained now, because of what was found?

In: the findings about a use case, and what has been done about it so far. Out: train now and why, or not and why.
Invariant: one training at a time, none while a release or an experiment is on, and no two because of alarms within
`LEAST_DAYS`; a training that led to nothing doubles the wait. A schedule trains at most once in `PACE`, counted from
the last training of whatever cause; alarms and people do not wait for it.

A false alarm costs a training and nothing else: what is trained must still pass the gate and the release. Faults of
the data (volume, freshness, schema, degraded answers) call for repair, and what was learned from broken rows would be
broken too: while one is found nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from reference_system.monitoring.report.record import Alarm, Finding

LEAST_DAYS = 2
_MOST_DAYS = 16
# Event time between a training that left a candidate and a scheduled one: how fast a person can follow what the gate
# says and what becomes of it.
PACE = timedelta(days=3)
# In this order: what is known to be worse comes before what is merely different.
_TRIGGERS: tuple[Alarm, ...] = ("performance", "drift")
_FAULTS = ("volume", "freshness", "schema", "quality")
# Faults of the events concern both use cases.
_EVENTS = "events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What has been done: the last training because of an alarm, and how many of them since the last release began.

    `candidate` is when the gate last judged a candidate, of whatever training; one that failed before has none.
    `busy` names what is under way (a release, an experiment), if anything is.
    """

    champion: str | None
    last: datetime | None = None
    fruitless: int = 0
    candidate: datetime | None = None
    busy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainDecision:
    """Whether to train, because of what, and why or why not; `not_before` where only time is missing."""

    use_case: str
    trigger: Alarm | None
    reason: str
    not_before: datetime | None = None


def rule(use_case: str, findings: Sequence[Finding], past: Past, *, now: datetime) -> RetrainDecision:
    """The policy's answer for one use case at a moment of event time."""
    trigger, finding = _call(use_case, findings)
    if trigger is None or finding is None:
        return RetrainDecision(use_case=use_case, trigger=None, reason="nothing calls for it")
    obstacle, not_before = _obstacle(use_case, findings, past, now)
    if obstacle is not None:
        return RetrainDecision(
            use_case=use_case, trigger=None, reason=f"{obstacle} ({finding.text})", not_before=not_before
        )
    return RetrainDecision(use_case=use_case, trigger=trigger, reason=finding.text)


def skip_scheduled(past: Past, *, now: datetime) -> str | None:
    """Why a scheduled training is left out at a moment of event time; `None` if it is not.

    The reason is the same at every look for as long as it stands.
    """
    if past.champion is None:
        return None
    if past.busy is not None:
        return f"{past.busy} is under way, and the gate would hold the candidate"
    if past.candidate is not None and now < past.candidate + PACE:
        return (
            f"the last training is of {past.candidate:%m-%d %H:%M}, less than {PACE.days} days ago;"
            f" not before {past.candidate + PACE:%m-%d %H:%M}, unless an alarm says otherwise"
        )
    return None


def wait_of(past: Past) -> timedelta:
    """How long after a training because of an alarm the next one may come."""
    doubled = LEAST_DAYS * 2 ** max(past.fruitless - 1, 0)
    return timedelta(days=min(doubled, _MOST_DAYS))


def _call(use_case: str, findings: Sequence[Finding]) -> tuple[Alarm | None, Finding | None]:
    for trigger in _TRIGGERS:
        for finding in findings:
            if finding.use_case == use_case and finding.trigger == trigger:
                return trigger, finding
    return None, None


def _obstacle(
    use_case: str, findings: Sequence[Finding], past: Past, now: datetime
) -> tuple[str | None, datetime | None]:
    """What forbids a training now, and until when if that is known."""
    if past.champion is None:
        return "there is no champion that could have grown old; `workbook train` makes the first one", None
    faults = [each for each in findings if each.kind in _FAULTS and each.use_case in (use_case, _EVENTS)]
    if faults:
        return f"the data are at fault and come first: {faults[0].text}", None
    if past.busy is not None:
        return f"{past.busy} is under way", None
    allowed = None if past.last is None else past.last + wait_of(past)
    if allowed is not None and now < allowed:
        tries = f" and led to nothing {past.fruitless} times" if past.fruitless > 1 else ""
        return f"the last alarm was answered {_ago(past.last, now)}{tries}; not before {allowed:%m-%d %H:%M}", allowed
    return None, None


def _ago(moment: datetime | None, now: datetime) -> str:
    days = 0.0 if moment is None else (now - moment) / timedelta(days=1)
    return f"{days:.1f} days ago"
