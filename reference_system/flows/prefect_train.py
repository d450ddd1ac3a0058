"""Training: event time's now → a challenger, judged by the gate, and on its way to become champion if it may.

In: a use case and why; the lake, the feature tables, the present champion. Out: a registered version with a verified
bundle, its model card, the gate's answer in the promotion log; a release begun, or the first champion made.
Invariant: a run that fails, at any line, leaves the old champion serving. A run of the schedule that comes too soon
after another training reads no data and says why.

Features come from Feast by a point-in-time join. Where the feature tables end before the rows that are needed, the
ETL is run first: training never waits for a schedule, and never learns from holes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from reference_system.clock import SimulatedClock
from reference_system.errors import BundleRefused, ServiceError
from reference_system.features.feast import store as feast_store
from reference_system.features.feast.feature_tables import complete_until
from reference_system.flows.model_history import log_skipped, past_of
from reference_system.flows.prefect_etl import etl
from reference_system.flows.prefect_steps import say, step, warn
from reference_system.flows.retention.old_versions import forget_old_versions
from reference_system.flows.training.case import PreparedCase
from reference_system.flows.training.gate_evidence import judged_scores, opponents_of
from reference_system.flows.training.record import card_of, importance_of, logged_training
from reference_system.flows.training.trained_model import (
    FRESH,
    Trained,
    TrainingTrigger,
    prepare_case,
    split_of,
    train_case,
    trigger_named,
    write_trained,
)
from reference_system.monitoring.retraining import skip_scheduled
from reference_system.paths import PROJECT_ROOT, StatePaths
from reference_system.registry import mlflow_registry
from reference_system.registry import promotion as promoting
from reference_system.registry.bundles.bundle import (
    Bundle,
    BundleManifest,
    current_version,
    load_bundle,
    read_bundle_manifest,
    version_folder,
)
from reference_system.registry.gate import decision as gate
from reference_system.registry.model_card import write_card
from reference_system.registry.promotion_log import LoggedDecision, append_decision
from reference_system.registry.release import releases
from reference_system.registry.traffic import read_plan
from reference_system.settings import Settings, load_settings
from reference_system.training.temporal_split import TemporalSplit
from reference_system.use_case import UseCase, require_use_case
from reference_system.windows import WindowedView

# How far behind now feature tables may end for a fresh training: what the ETL leaves to settle, in real seconds.
_BEHIND_SECONDS = 10.0


class TrainSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did; `version` is a version of the registered model named like the use case.

    `then` is what follows: `champion` (the first one), `shadow` (a release has begun) or `nothing`.
    """

    use_case: str
    trigger: str
    as_of: datetime
    version: str
    estimator: str
    answer: gate.GateAnswer
    then: str
    reasons: tuple[str, ...]
    checks: tuple[gate.GateCheck, ...]
    metrics: dict[str, float]
    run_id: str


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduled run that trained nothing; `skipped` says why."""

    use_case: str
    trigger: str
    as_of: datetime
    skipped: str


@flow(name="train", log_prints=False)
def train(use_case: str, trigger: str = "asked") -> dict[str, object]:
    """Train, register and judge a challenger.

    Args:
        use_case: `fraud` or `recommendation`.
        trigger: `asked`, `schedule`, `drift` or `performance`. The last two learn from labels as reported so far.

    Returns:
        `TrainSummary` as a dict; of a scheduled run that was left out `use_case`, `trigger`, `as_of` and `skipped`,
        the reason.
    """
    name, why = require_use_case(use_case), trigger_named(trigger)
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    mlflow_registry.use_mlflow(settings.url("mlflow"))
    as_of = SimulatedClock(paths.clock).now()
    promoting.reconcile_champion(paths.bundles, settings.port("mlflow"), use_case=name, now=as_of)
    reason = skip_scheduled(past_of(paths.bundles, name), now=as_of) if why == "schedule" else None
    if reason is not None:
        log_skipped(paths.bundles, name, reason, now=as_of)
        say(f"{name}: no scheduled training: {reason}")
        skipped = Skipped(use_case=name, trigger=why, as_of=as_of, skipped=reason)
        left_out: dict[str, object] = msgspec.to_builtins(skipped)
        return left_out
    until = _complete_features(name, paths, as_of, why)
    case = step(read_training_set, name, split_of(name, as_of, trigger=why, until=until))
    trained = step(fit_and_evaluate, name, case, why)
    summary = step(register_and_decide, trained)
    step(forget_what_is_old, name)
    done: dict[str, object] = msgspec.to_builtins(summary)
    return done


@task(cache_policy=NO_CACHE, persist_result=False)
def read_training_set(use_case: UseCase, split: TemporalSplit) -> PreparedCase:
    """The rows to learn from and the rows to be judged on."""
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    store = feast_store.open_store(paths)

    def join(entities: pa.Table, views: Sequence[WindowedView]) -> pd.DataFrame:
        return feast_store.historical(store, entities, views)

    case = prepare_case(use_case, paths.lake, split, join, seed=settings.seed)
    say(
        f"{use_case}: {len(case.train)} rows from {case.split.train} to learn from,"
        f" {len(case.evaluator.rows)} rows from {case.split.test} to be judged on"
    )
    return case


@task(cache_policy=NO_CACHE, persist_result=False)
def fit_and_evaluate(use_case: UseCase, case: PreparedCase, trigger: TrainingTrigger) -> Trained:
    """Fit the candidates, judge them beside the baselines, export the best."""
    trained = train_case(use_case, case, seed=load_settings().seed, trigger=trigger)
    metric = trained.spec.primary_metric
    worth = [(candidate.model.name, candidate.evaluation) for candidate in trained.selection.candidates]
    for name, evaluation in [*worth, *trained.selection.baselines.items()]:
        say(f"{use_case}: {metric} of {name} is {evaluation.metrics[metric]:.4f}")
    return trained


@task(cache_policy=NO_CACHE, persist_result=False)
def register_and_decide(trained: Trained) -> TrainSummary:
    """Register the best candidate with its bundle, let the gate judge it, begin its release if the gate says so."""
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    root, use_case, inputs = paths.bundles, trained.use_case, tuple(trained.spec.inputs)
    commit, importance = _commit(), importance_of(trained, seed=settings.seed)
    registered = mlflow_registry.register_training(
        logged_training(trained, importance, commit=commit), lambda version: write_trained(trained, version, root)
    )
    bundle = load_bundle(version_folder(root, use_case, registered.version), use_case=use_case, inputs=inputs)
    previous = current_version(root, use_case) or mlflow_registry.champion_version(use_case)
    champion = None if previous is None else _champion(use_case, previous, inputs, root)
    opponents = opponents_of(trained, paths.lake, champion=champion, rolled_back=_rolled_back(root, use_case))
    verdict = judged_scores(trained, bundle, opponents, seed=settings.seed)
    verdict = gate.conclude_gate(verdict, [*verdict.checks, *_busy(root, use_case)])
    card = write_card(root, card_of(trained, bundle, champion, verdict, importance, commit=commit))
    mlflow_registry.log_verdict(registered, verdict.answer, verdict.reasons, msgspec.to_builtins(verdict), card)
    then = _act(settings, verdict, trained, registered.version, previous)
    say(f"{use_case}: version {registered.version}: {verdict.answer}: {'; '.join(verdict.reasons)}")
    return TrainSummary(
        use_case=use_case,
        trigger=trained.trigger,
        as_of=trained.case.split.as_of,
        version=registered.version,
        estimator=trained.selection.best.model.name,
        answer=verdict.answer,
        then=then,
        reasons=verdict.reasons,
        checks=verdict.checks,
        metrics=trained.metrics,
        run_id=registered.run_id,
    )


@task
def forget_what_is_old(use_case: UseCase) -> list[str]:
    """Forget versions that have no part to play any more; returns which."""
    try:
        gone = forget_old_versions(load_settings(), use_case)
    except ServiceError as error:
        warn(f"{use_case}: old versions stay until the next training: {error}")
        return []
    if gone:
        say(f"{use_case}: forgot the versions {', '.join(gone)}")
    return gone


def _act(settings: Settings, verdict: gate.GateDecision, trained: Trained, version: str, previous: str | None) -> str:
    """Write the gate's answer down, and let it take effect."""
    root = StatePaths(settings.state_dir).bundles
    now, use_case = trained.case.split.as_of, trained.use_case
    decision = LoggedDecision(
        event_timestamp=now,
        use_case=use_case,
        kind="gate",
        version=version,
        previous=previous,
        reasons=(verdict.answer, *verdict.reasons),
        figures=_figures(verdict),
    )
    append_decision(root, decision)
    if verdict.answer != "promote":
        return "nothing"
    if verdict.champion is None or previous is None:
        first = msgspec.structs.replace(decision, kind="champion", reasons=verdict.reasons)
        promoting.make_champion(root, settings.port("mlflow"), use_case=use_case, version=version, decision=first)
        return "champion"
    releases.begin_release(root, use_case=use_case, version=version, champion=previous, now=now, seed=settings.seed)
    return "shadow"


def _figures(verdict: gate.GateDecision) -> dict[str, float]:
    """The numbers that decided, by name."""
    found = {verdict.metric: verdict.challenger}
    if verdict.champion is not None:
        found[f"champion's {verdict.metric}"] = verdict.champion
    for name, interval in verdict.against.items():
        found |= {f"against {name}, low": interval.low, f"against {name}, high": interval.high}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def _champion(use_case: UseCase, version: str, inputs: tuple[str, ...], root: Path) -> Bundle | None:
    """The champion; `None` if its bundle is refused, because then nobody can serve it either."""
    for fetch in (False, True):
        try:
            if fetch:
                mlflow_registry.fetch_bundle(use_case, version, root)
            return load_bundle(version_folder(root, use_case, version), use_case=use_case, inputs=inputs)
        except BundleRefused as error:
            say(f"{use_case}: the champion, version {version}, cannot be compared: {error}")
    return None


def _rolled_back(root: Path, use_case: UseCase) -> list[BundleManifest]:
    """The manifests of versions that were rolled back; a bundle that is not here any more cannot come again."""
    found = []
    back = promoting.rolled_back(root, use_case)
    for version in sorted(one for one in back if version_folder(root, use_case, one).exists()):
        try:
            found.append(read_bundle_manifest(version_folder(root, use_case, version)))
        except BundleRefused as error:
            say(f"{use_case}: version {version}, which was rolled back, cannot be compared: {error}")
    return found


def _busy(root: Path, use_case: UseCase) -> list[gate.GateCheck]:
    """A release or an experiment that is on: the next challenger waits for its end."""
    release, plan = releases.read_release(root, use_case), read_plan(root, use_case)
    if release is None and plan is None:
        return []
    what = f"version {release.version} is in {release.stage}" if release else f"{plan.name} is on" if plan else ""
    return [gate.GateCheck(name="release", answer="hold", reason=f"{what}: one at a time")]


def _complete_features(
    use_case: UseCase, paths: StatePaths, as_of: datetime, trigger: TrainingTrigger = "asked"
) -> datetime | None:
    """Run the ETL if the feature tables end before the test window does; where they end then."""
    needed = split_of(use_case, as_of, trigger=trigger).test.end
    if trigger in FRESH:
        needed -= timedelta(seconds=_BEHIND_SECONDS * load_settings().speed)
    reached = complete_until(paths.feature_tables)
    if reached is None or reached < needed:
        say(f"feature tables reach {reached}, and {needed} is needed: the ETL comes first")
        step(etl)
    return complete_until(paths.feature_tables)


def _commit() -> str | None:
    """The commit of this checkout, if it is one."""
    command = ["git", "rev-parse", "HEAD"]  # git is where the reader's shell finds it
    try:
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=5)
    except OSError:
        return None
    return done.stdout.strip() or None
