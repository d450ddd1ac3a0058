"""Releases: a version that passed the gate → shadow → canary → champion, or rolled back.

In: what the gate promoted, and evidence from the logs. Out: the traffic plan that serving reads, one line of the
promotion log for each step, and the champion at the end.
Invariant: nobody becomes champion without a canary; what was rolled back stays so; a process that is killed at any
line and started again ends in the same state.

How: a step is first written into `release.json` as `pending`, then into the promotion log, then it takes effect, and
only then `pending` is taken away. Each of these may be done twice. One kernel lock a use case keeps the controller and
people apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from reference_system.assignment import ChallengerMode
from reference_system.errors import BundleRefused, StateError
from reference_system.file_lock import locked
from reference_system.registry.bundles.bundle import current_version
from reference_system.registry.promotion import rolled_back
from reference_system.registry.promotion_log import (
    DecisionKind,
    LoggedDecision,
    append_decision,
    read_decisions,
)
from reference_system.registry.release.guardrails import Evidence, Policy, harms, missing
from reference_system.registry.traffic import TrafficPlan, clear_plan, read_plan, write_plan
from reference_system.replaced_files import read_record, replace_file
from reference_system.use_case import UseCase

RELEASE = "release.json"
_LOCK = ".release.lock"
_MADE_OUTSIDE = "it was made champion outside of its release"
ReleaseStage = Literal["shadow", "canary"]
Move = Literal["stay", "canary", "champion", "rolled back"]
# Makes the version of a decision the champion, and writes the decision; may be called twice with one decision.
Promote = Callable[[LoggedDecision], None]


class Release(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a version has come; times are event time.

    `reasons` and `figures` are what the last look found; `pending` is a step that was decided and may be half done.
    """

    use_case: UseCase
    version: str
    champion: str
    stage: ReleaseStage
    salt: Annotated[str, Meta(min_length=1, max_length=64)]
    started: datetime
    since: datetime  # when the stage began
    reasons: tuple[str, ...] = ()
    figures: dict[str, float] = {}
    pending: LoggedDecision | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What steps are taken with: the canary's share, and who makes a champion."""

    share: float
    promote: Promote


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStep:
    """What should happen to a release, and why."""

    to: Move
    reasons: tuple[str, ...]
    figures: dict[str, float]


def next_step(release: Release, evidence: Evidence, now: datetime, policy: Policy) -> ReleaseStep:
    """The next step: back at the first sure harm, on when the stage has lasted and shown enough, else wait."""
    if evidence.champion == release.version:
        return ReleaseStep(to="champion", reasons=(_MADE_OUTSIDE,), figures=evidence.figures())
    harm = harms(evidence, policy)
    if evidence.champion != release.champion:
        harm = [f"the champion is {evidence.champion} now; this release began against {release.champion}", *harm]
    waits = missing(evidence, policy, stage=release.stage)
    needed = policy.shadow if release.stage == "shadow" else policy.canary
    if now - release.since < needed:
        waits.append(f"in {release.stage} for {_hours(now - release.since)} of {_hours(needed)} hours")
    if not harm and waits and now - release.since >= policy.deadline:
        harm = [f"{release.stage} did not end within {policy.deadline.days} days: {'; '.join(waits)}"]
    to: Move
    if harm:
        to, reasons = "rolled back", harm
    elif waits:
        to, reasons = "stay", waits
    else:
        to = "canary" if release.stage == "shadow" else "champion"
        reasons = [f"{release.stage} for {_hours(now - release.since)} hours without harm"]
    return ReleaseStep(to=to, reasons=tuple(reasons), figures=evidence.figures())


def read_release(root: Path, use_case: str) -> Release | None:
    """The release of a use case that is going on, or `None`.

    Raises:
        StateError: if the file is not what this module wrote.
    """
    path = root / use_case / RELEASE
    return read_record(path, Release)


def begin_release(  # noqa: PLR0913 - one argument for each fact of a release
    root: Path, *, use_case: str, version: str, champion: str, now: datetime, seed: int
) -> Release:
    """Start a release in the shadow: `version` is what the gate promoted, `seed` of the assignment to the canary.

    Raises:
        StateError: if a release or an experiment of the use case is on, or the version was rolled back before.
    """
    with locked(root / use_case / _LOCK):
        going, plan = read_release(root, use_case), read_plan(root, use_case)
        if going is not None or plan is not None:
            what = f"release of version {going.version}" if going else f"{plan.mode} {plan.name}" if plan else ""
            raise StateError(f"{use_case}: the {what} is on", next_command=f"workbook timeline {use_case}")
        if version in rolled_back(root, use_case):
            raise StateError(f"{use_case}: version {version} was rolled back", next_command="workbook models list")
        decision = LoggedDecision(
            event_timestamp=now,
            use_case=use_case,
            kind="shadow",
            version=version,
            previous=champion,
            reasons=("the gate promoted it",),
        )
        release = Release(
            use_case=use_case,
            version=version,
            champion=champion,
            stage="shadow",
            salt=f"{use_case}-{version}-{seed}",
            started=now,
            since=now,
            pending=decision,
        )
        _save(root, release)
        return _carry_out(root, release, decision, None) or release


def resume(root: Path, use_case: str, means: Means) -> Release | None:
    """Finish the step that a killed process left half done; the release as it is then."""
    with locked(root / use_case / _LOCK):
        release = read_release(root, use_case)
        if release is None or release.pending is None:
            return release
        return _carry_out(root, release, release.pending, means)


def advance(root: Path, judged: Release, step: ReleaseStep, now: datetime, means: Means) -> None:
    """Take a step; nothing happens if the release is no longer the one that was judged."""
    with locked(root / judged.use_case / _LOCK):
        release = read_release(root, judged.use_case)
        if release is None or release != judged:
            return
        looked = msgspec.structs.replace(release, reasons=step.reasons, figures=step.figures)
        if step.to == "stay":
            _save(root, looked)
            return
        decision = _decision(looked, step.to, now)
        _save(root, msgspec.structs.replace(looked, pending=decision))
        _carry_out(root, looked, decision, means)


def abort(root: Path, use_case: str, *, reason: str, now: datetime) -> Release | None:
    """End the release of a use case by hand; an experiment ends with it. Returns the release that was ended.

    The champion answers alone afterwards, within about a second. A version that was champion before it could be
    stopped stays so: then nothing was ended.
    """
    with locked(root / use_case / _LOCK):
        release = read_release(root, use_case)
        if release is not None:
            return _end(root, release, reason, now)
        plan = read_plan(root, use_case)
        if plan is not None:
            ended_plan = LoggedDecision(
                event_timestamp=now,
                use_case=use_case,
                kind="experiment",
                version=plan.version,
                reasons=(f"{plan.name} was ended: {reason}",),
            )
            _append_once(root, ended_plan)
            clear_plan(root, use_case)
        return None


def _end(root: Path, release: Release, reason: str, now: datetime) -> Release | None:
    """Roll back; a step that took effect, or a roll back that was begun, is finished instead."""
    begun = release.pending
    if _is_live(root, release):
        to: DecisionKind = "champion"
        release = msgspec.structs.replace(release, reasons=(_MADE_OUTSIDE,))
    else:
        to = "rolled back"
        release = msgspec.structs.replace(release, reasons=(reason,))
    decision = begun if begun is not None and begun.kind == to else _decision(release, to, now)
    _save(root, msgspec.structs.replace(release, pending=decision))
    _carry_out(root, release, decision, None)
    return None if to == "champion" else msgspec.structs.replace(release, reasons=decision.reasons)


def _is_live(root: Path, release: Release) -> bool:
    """Whether its version is champion: the pointer names it."""
    return current_version(root, release.use_case) == release.version


def _carry_out(root: Path, release: Release, decision: LoggedDecision, means: Means | None) -> Release | None:
    """Write the decision and let it take effect; every line of this may run twice.

    Without `means` there are only steps into the shadow, back, and to the end of a step that took effect.
    """
    # Who is champion already is not verified once more: what broke since is no reason to say that it never was.
    if decision.kind == "champion" and means is not None and not _is_live(root, release):
        try:
            means.promote(decision)
        except BundleRefused as error:
            refused = f"its bundle is refused: {error}"
            decision = msgspec.structs.replace(decision, kind="rolled back", reasons=(refused,))
    _append_once(root, decision)
    if decision.kind in ("shadow", "canary"):
        stage: ReleaseStage = "canary" if decision.kind == "canary" else "shadow"
        share = means.share if means is not None and stage == "canary" else 0.0
        write_plan(root, _plan(release, stage, share, decision.event_timestamp))
        moved = msgspec.structs.replace(release, stage=stage, since=decision.event_timestamp, pending=None)
        _save(root, moved)
        return moved
    clear_plan(root, release.use_case)
    (root / release.use_case / RELEASE).unlink(missing_ok=True)
    return None


def _plan(release: Release, mode: ChallengerMode, share: float, since: datetime) -> TrafficPlan:
    return TrafficPlan(
        use_case=release.use_case,
        mode=mode,
        version=release.version,
        name=f"release-{release.version}",
        share=share,
        salt=release.salt,
        since=since,
    )


def _decision(release: Release, kind: DecisionKind, now: datetime) -> LoggedDecision:
    return LoggedDecision(
        event_timestamp=now,
        use_case=release.use_case,
        kind=kind,
        version=release.version,
        previous=release.champion,
        reasons=release.reasons,
        figures=release.figures,
    )


def _append_once(root: Path, decision: LoggedDecision) -> None:
    if decision not in read_decisions(root, decision.use_case):
        append_decision(root, decision)


def _save(root: Path, release: Release) -> None:
    replace_file(root / release.use_case / RELEASE, msgspec.json.encode(release), durable=True)


def _hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.1f}"
