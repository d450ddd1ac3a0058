"""Training: event time's now → a challenger, and a champion if the gate lets it through.

In: a use case; the lake, the feature tables, the present champion. Out: a registered version with a verified bundle.
Invariant: a run that fails, at any line, leaves the old champion serving.

Features come from Feast by a point-in-time join. Where the feature tables end before the rows that are needed, the
ETL is run first: training never waits for a schedule, and never learns from holes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

import msgspec
import pandas as pd
import pyarrow as pa
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from reference_system.errors import BundleRefused, TrainingError
from reference_system.features import feast_store
from reference_system.flows.prefect_etl import Mark, etl
from reference_system.flows.prefect_steps import event_time, is_watched, say, step
from reference_system.flows.trained_model import (
    Case,
    Trained,
    logged_training,
    prepare,
    split_of,
    train_case,
    write_trained,
)
from reference_system.paths import PROJECT_ROOT, StatePaths
from reference_system.registry import gate, mlflow_registry
from reference_system.registry.bundles import UseCase, load_bundle, set_current, version_folder
from reference_system.registry.onnx_scorer import OnnxScorer
from reference_system.registry.promotions import Decision, append_decision
from reference_system.settings import load_settings
from reference_system.use_cases import USE_CASES
from reference_system.windows import WindowedView


class TrainSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did; `version` is a version of the registered model named like the use case."""

    use_case: str
    as_of: datetime
    version: str
    estimator: str
    answer: gate.Answer
    reasons: tuple[str, ...]
    metrics: dict[str, float]
    run_id: str


@flow(name="train", log_prints=False)
def train(use_case: str) -> dict[str, object]:
    """Train, register and judge a challenger.

    Args:
        use_case: `fraud` or `recommendation`.

    Returns:
        `TrainSummary` as a dict.
    """
    if use_case not in USE_CASES:
        raise TrainingError(f"there is no use case {use_case!r} (there are {', '.join(USE_CASES)})")
    name = cast("UseCase", use_case)
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    mlflow_registry.connect(settings.url("mlflow"))
    as_of = event_time(paths)
    _complete_features(name, paths, as_of)
    case = step(read_training_set, name, as_of)
    trained = step(fit_and_evaluate, name, case)
    summary = step(register_and_decide, trained)
    done: dict[str, object] = msgspec.to_builtins(summary)
    return done


@task(cache_policy=NO_CACHE, persist_result=False)
def read_training_set(use_case: UseCase, as_of: datetime) -> Case:
    """The rows to learn from and the rows to be judged on."""
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    store = feast_store.open_store(paths)

    def join(entities: pa.Table, views: Sequence[WindowedView]) -> pd.DataFrame:
        return feast_store.historical(store, entities, views)

    case = prepare(use_case, paths.lake, as_of, join, seed=settings.seed)
    say(
        f"{use_case}: {len(case.train)} rows from {case.split.train} to learn from,"
        f" {len(case.judge.rows)} rows from {case.split.test} to be judged on"
    )
    return case


@task(cache_policy=NO_CACHE, persist_result=False)
def fit_and_evaluate(use_case: UseCase, case: Case) -> Trained:
    """Fit the candidates, judge them beside the baselines, export the best."""
    trained = train_case(use_case, case, seed=load_settings().seed)
    metric = trained.contest.primary_metric
    worth = [(candidate.model.name, candidate.judgement) for candidate in trained.selection.candidates]
    for name, judgement in [*worth, *trained.selection.baselines.items()]:
        say(f"{use_case}: {metric} of {name} is {judgement.metrics[metric]:.4f}")
    return trained


@task(cache_policy=NO_CACHE, persist_result=False)
def register_and_decide(trained: Trained) -> TrainSummary:
    """Register the best candidate with its bundle, compare it with the champion, promote it if the gate says so."""
    settings = load_settings()
    root = StatePaths(settings.state_dir).bundles
    use_case, inputs = trained.use_case, tuple(trained.contest.inputs)
    registered = mlflow_registry.register(
        logged_training(trained, commit=_commit()), lambda version: write_trained(trained, version, root)
    )
    bundle = load_bundle(version_folder(root, use_case, registered.version), use_case=use_case, inputs=inputs)
    previous = mlflow_registry.champion_version(use_case)
    champion = None if previous is None else _champion(use_case, previous, inputs, root)
    verdict = _decide(trained, bundle.scorer, champion, seed=settings.seed)
    mlflow_registry.log_verdict(registered, verdict.answer, verdict.reasons, msgspec.to_builtins(verdict))
    if verdict.answer == "promote":
        promotion = Decision(
            event_timestamp=trained.case.split.as_of,
            use_case=use_case,
            version=registered.version,
            previous=previous,
            reasons=verdict.reasons,
        )
        _promote(promotion, registered.version, root)
    say(f"{use_case}: version {registered.version}: {verdict.answer}: {'; '.join(verdict.reasons)}")
    return TrainSummary(
        use_case=use_case,
        as_of=trained.case.split.as_of,
        version=registered.version,
        estimator=trained.selection.best.model.name,
        answer=verdict.answer,
        reasons=verdict.reasons,
        metrics=trained.metrics,
        run_id=registered.run_id,
    )


def _decide(trained: Trained, challenger: OnnxScorer, champion: OnnxScorer | None, *, seed: int) -> gate.Verdict:
    """The gate's answer; both models score the same rows with the bytes that serve."""
    judge = trained.case.judge
    judged = judge.judge(challenger.score)
    contenders = gate.Contenders(
        metric=trained.contest.primary_metric,
        groups=judge.groups,
        challenger=judged.primary,
        champion=None if champion is None else judge.judge(champion.score).primary,
        baselines={name: judgement.primary for name, judgement in trained.selection.baselines.items()},
    )
    return gate.decide(contenders, judged.metrics, seed=seed)


def _champion(use_case: UseCase, version: str, inputs: tuple[str, ...], root: Path) -> OnnxScorer | None:
    """The champion's scorer; `None` if its bundle is refused, because then nobody can serve it either."""
    for fetch in (False, True):
        try:
            if fetch:
                mlflow_registry.fetch_bundle(use_case, version, root)
            return load_bundle(version_folder(root, use_case, version), use_case=use_case, inputs=inputs).scorer
        except BundleRefused as error:
            say(f"{use_case}: the champion, version {version}, cannot be compared: {error}")
    return None


def _promote(promotion: Decision, version: str, root: Path) -> None:
    """The registry first: it says who is champion. What follows can be repeated."""
    mlflow_registry.promote(promotion.use_case, version, event_timestamp=promotion.event_timestamp.isoformat())
    set_current(root, promotion.use_case, version)
    append_decision(root, promotion)


def _complete_features(use_case: UseCase, paths: StatePaths, as_of: datetime) -> None:
    """Run the ETL if the feature tables end before the test window does."""
    needed = split_of(use_case, as_of).test.end
    mark = paths.feature_tables / "etl.json"
    reached = msgspec.json.decode(mark.read_bytes(), type=Mark).end if mark.exists() else None
    if reached is None or reached < needed:
        say(f"feature tables reach {reached}, and {needed} is needed: the ETL comes first")
        (etl if is_watched() else etl.fn)()


def _commit() -> str | None:
    """The commit of this checkout, if it is one."""
    command = ["git", "rev-parse", "HEAD"]  # git is where the reader's shell finds it
    try:
        done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=5)
    except OSError:
        return None
    return done.stdout.strip() or None
