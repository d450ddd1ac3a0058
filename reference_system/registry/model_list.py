"""The versions of a use case: what each is and what became of it.

In: bundles on this machine, promotion log, traffic plan; what MLflow knows besides. Out: one row a version.
Invariant: it answers without MLflow; then versions whose bundles are not here are missing, and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from reference_system.errors import BundleRefused
from reference_system.registry.bundles.bundle import BundleManifest, current_version, read_bundle_manifest
from reference_system.registry.mlflow_rest import Version
from reference_system.registry.promotion import rolled_back
from reference_system.registry.promotion_log import LoggedDecision, read_decisions
from reference_system.registry.traffic import TrafficPlan, read_plan
from reference_system.use_cases import DECLARATIONS


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One version.

    `stage` is champion, challenger (with what it does), retired, rolled back, refused, held or waiting; `since` the
    moment of event time at which that was decided. `gate` is the gate's answer. Fields of the bundle are `None` where
    it is not on this machine.
    """

    use_case: str
    version: str
    stage: str
    since: datetime | None
    gate: str | None
    estimator: str | None = None
    trigger: str | None = None
    learned_from: datetime | None = None
    learned_until: datetime | None = None
    metric: str | None = None
    value: float | None = None
    problem: str | None = None


def listed(root: Path, use_case: str, registered: Sequence[Version]) -> list[ModelRow]:
    """The rows, the newest version first.

    Args:
        root: the folder of the bundles.
        use_case: whose.
        registered: what MLflow knows; empty if it is away.
    """
    folder = root / use_case
    here = {path.name for path in folder.iterdir() if path.name.isdigit()} if folder.is_dir() else set()
    decisions = read_decisions(root, use_case)
    tags = {one.version: one.tag("gate") for one in registered}
    champion, plan, back = current_version(root, use_case), read_plan(root, use_case), rolled_back(root, use_case)
    rows = []
    for version in sorted(here | tags.keys(), key=int, reverse=True):
        about = [one for one in decisions if one.version == version]
        gate = _gate(about) or tags.get(version)
        stage, since = _stage(version, about, gate, champion=champion, plan=plan, back=back)
        row = ModelRow(use_case=use_case, version=version, stage=stage, since=since, gate=gate)
        rows.append(_with_bundle(row, folder / version) if version in here else row)
    return rows


def gate_decision(root: Path, use_case: str, version: str) -> LoggedDecision | None:
    """What the gate said of a version, if it was asked."""
    about = [one for one in read_decisions(root, use_case) if one.version == version and one.kind == "gate"]
    return about[-1] if about else None


def _gate(about: Sequence[LoggedDecision]) -> str | None:
    """The answer is the first of the gate's reasons."""
    return next((one.reasons[0] for one in reversed(about) if one.kind == "gate" and one.reasons), None)


def _stage(  # noqa: PLR0913 - everything that says what a version is
    version: str,
    about: Sequence[LoggedDecision],
    gate: str | None,
    *,
    champion: str | None,
    plan: TrafficPlan | None,
    back: set[str],
) -> tuple[str, datetime | None]:
    def when(*kinds: str) -> datetime | None:
        return next((one.event_timestamp for one in reversed(about) if one.kind in kinds), None)

    if version == champion:
        return "champion", when("champion")
    if plan is not None and plan.version == version:
        doing = plan.mode if plan.mode == "shadow" else f"{plan.mode} {plan.share:.0%}"
        return f"challenger ({doing})", plan.since
    if version in back:
        return "rolled back", when("rolled back")
    if when("champion") is not None:
        return "retired", when("champion")
    return {"refuse": "refused", "hold": "held"}.get(gate or "", "waiting"), when("gate")


def _with_bundle(row: ModelRow, folder: Path) -> ModelRow:
    try:
        manifest: BundleManifest = read_bundle_manifest(folder)
    except BundleRefused as error:
        return msgspec.structs.replace(row, problem=str(error))
    metric = DECLARATIONS[row.use_case].primary_metric
    return msgspec.structs.replace(
        row,
        estimator=manifest.estimator,
        trigger=manifest.trigger,
        learned_from=manifest.data_window.start,
        learned_until=manifest.data_window.end,
        metric=metric,
        value=manifest.metrics.get(metric),
    )
