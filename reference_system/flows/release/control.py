"""The controller of releases: evidence from the logs and from serving → the next step of each release.

In: the releases that are on, the lake, serving's metrics page, the world's clock. Out: their next steps, taken.
Invariant: it only acts on what was logged; without evidence a release stays where it is and says what it waits for.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from reference_system.errors import ServiceError
from reference_system.flows.release.case import Compare
from reference_system.paths import StatePaths
from reference_system.registry import mlflow_rest
from reference_system.registry import promotion as promoting
from reference_system.registry.bundles.bundle import current_version
from reference_system.registry.promotion_log import LoggedDecision
from reference_system.registry.release import releases
from reference_system.registry.release.duckdb_logs import open_pairs
from reference_system.registry.release.guardrails import Evidence, Policy
from reference_system.registry.release.releases import Means, Release, ReleaseStep
from reference_system.settings import Settings
from reference_system.stack.metrics_page import MetricsPage, read_metrics
from reference_system.use_case import case_module
from reference_system.use_cases import DECLARATIONS

ROLLED_BACK_TAG = "rolled_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What serving says of a challenger; `up` is false while it does not answer."""

    up: bool
    refused: bool = False
    tripped: str | None = None
    counts: dict[str, int] = field(default_factory=dict)


def policy_of(settings: Settings, use_case: str) -> Policy:
    """How a release of the use case is judged."""
    return Policy(
        shadow=timedelta(hours=settings.shadow_hours),
        canary=timedelta(hours=settings.canary_hours),
        share=settings.canary_share,
        latency_budget_ms=1000.0 * DECLARATIONS[use_case].breaker_seconds,
    )


def control(settings: Settings, use_case: str, *, now: datetime) -> str:
    """One look at a use case; returns what was found, in one line."""
    root = StatePaths(settings.state_dir).bundles
    # Where MLflow was away at a promotion, its alias still names the champion of before.
    promoting.settle_alias(root, settings.port("mlflow"), use_case)
    release = releases.read_release(root, use_case)
    if release is None:
        return f"{use_case}: no release"
    means = Means(share=settings.canary_share, promote=partial(_promote, settings))
    if release.pending is not None:
        releases.resume(root, use_case, means)
        return f"{use_case}: version {release.version}: the step to {release.pending.kind} was finished"
    evidence = gather(settings, release, now=now)
    step = releases.next_step(release, evidence, now, policy_of(settings, use_case))
    releases.advance(root, release, step, now, means)
    if step.to == "rolled back":
        _tag(settings, release, step)
    return f"{use_case}: version {release.version}, {release.stage}: {step.to}: {'; '.join(step.reasons)}"


def gather(settings: Settings, release: Release, *, now: datetime) -> Evidence:
    """Everything that is known of a release."""
    paths = StatePaths(settings.state_dir)
    serving = read_serving(settings, release)
    with open_pairs(paths.lake, release, as_of=now) as logs:
        pairs, answers = logs.pairs, logs.canary_answers
        compare: Compare = case_module(__package__, release.use_case).COMPARE
        comparison = compare(logs, settings.seed)
    return Evidence(
        champion=current_version(paths.bundles, release.use_case),
        serving=serving.up,
        refused=serving.refused,
        tripped=serving.tripped,
        errors=serving.counts.get("errors", 0),
        dropped=serving.counts.get("dropped", 0),
        pairs=pairs,
        canary_answers=answers,
        comparison=comparison,
    )


def read_serving(settings: Settings, release: Release) -> Serving:
    """Serving's own metrics about the challenger."""
    try:
        page = read_metrics(settings.port("serving"))
    except OSError:
        return Serving(up=False)
    labels = {"use_case": release.use_case, "version": release.version}
    return Serving(
        up=True,
        refused=bool(page.total("workbook_challenger_refused_total", **labels)),
        tripped=_reason(page, labels),
        counts={
            "errors": int(page.total("workbook_challenger_errors_total", **labels) or 0),
            "dropped": int(page.total("workbook_shadow_total", **labels, outcome="dropped") or 0),
        },
    )


def _reason(page: MetricsPage, labels: dict[str, str]) -> str | None:
    wanted = frozenset(labels.items())
    for (name, has), value in page.samples.items():
        if name == "workbook_challenger_tripped" and wanted <= has and value:
            return dict(has).get("reason")
    return None


def _promote(settings: Settings, decision: LoggedDecision) -> None:
    root = StatePaths(settings.state_dir).bundles
    promoting.make_champion(
        root,
        settings.port("mlflow"),
        use_case=decision.use_case,
        version=decision.version or "",
        decision=decision,
    )


def _tag(settings: Settings, release: Release, step: ReleaseStep) -> None:
    """Say it in MLflow as well; the promotion log has it in any case."""
    with contextlib.suppress(ServiceError):
        reason = "; ".join(step.reasons)
        mlflow_rest.set_version_tag(
            settings.port("mlflow"), release.use_case, release.version, ROLLED_BACK_TAG, reason
        )
