"""What an experiment changes: the traffic plan and the promotion log.

In: an experiment. Out: its file, a line in the promotion log, and the plan that serving reads once a second.
Invariant: what was decided is on the disk before it takes effect. A crash between the two leaves an experiment that
nobody is exposed to, which can be stopped.
"""

from __future__ import annotations

from typing import Final

from reference_system.errors import BundleRefused, ServiceError, StateError
from reference_system.experiments.definition import Experiment, path_of, write_experiment
from reference_system.experiments.report import ExperimentReport
from reference_system.paths import StatePaths
from reference_system.registry.bundles.bundle import current_version, load_bundle, version_folder
from reference_system.registry.promotion_log import LoggedDecision, append_decision
from reference_system.registry.release.releases import read_release
from reference_system.registry.traffic import TrafficPlan, clear_plan, read_plan, write_plan
from reference_system.settings import Settings
from reference_system.stack.services import service_named
from reference_system.use_cases.recommendation.features import INPUTS

_USE_CASE: Final = "recommendation"


def require_free(settings: Settings, name: str, treatment: str) -> str:
    """Check everything that an experiment needs; the champion's version, its control.

    Raises:
        StateError: the name is used, or a release or another experiment is on.
        ServiceError: nobody would be exposed, because serving does not answer.
        BundleRefused: the treatment's bundle cannot be loaded.
    """
    paths = StatePaths(settings.state_dir)
    if path_of(paths.experiments, name).exists():
        raise StateError(
            f"there is an experiment {name!r} already; a name is used once",
            next_command=f"workbook experiment status {name}",
        )
    _require_no_other(paths)
    problem = service_named(settings, "serving").health.problem()
    if problem is not None:
        raise ServiceError(f"serving is not ready, so nobody would be exposed: {problem}", next_command="make up")
    champion = current_version(paths.bundles, _USE_CASE)
    if champion is None:
        raise StateError(f"{_USE_CASE} has no champion to compare with", next_command=f"workbook train {_USE_CASE}")
    _require_verified(paths, treatment)
    return champion


def _require_no_other(paths: StatePaths) -> None:
    """There is one version beside the champion at a time: a release's, or an experiment's."""
    plan, release = read_plan(paths.bundles, _USE_CASE), read_release(paths.bundles, _USE_CASE)
    if release is not None:
        raise StateError(
            f"the release of version {release.version} is on ({release.stage}); one at a time",
            next_command="workbook models list",
        )
    if plan is not None:
        raise StateError(
            f"the {plan.mode} {plan.name} of version {plan.version} is on; one at a time",
            next_command=f"workbook experiment stop {plan.name}" if plan.mode == "experiment" else "workbook status",
        )


def _require_verified(paths: StatePaths, version: str) -> None:
    """Load the bundle once, as serving will."""
    try:
        folder = version_folder(paths.bundles, _USE_CASE, version)
        load_bundle(folder, use_case=_USE_CASE, inputs=INPUTS)
    except BundleRefused as error:
        raise BundleRefused(
            f"version {version} cannot be a treatment: {error}", next_command=f"workbook models list {_USE_CASE}"
        ) from error


def begin_traffic(paths: StatePaths, experiment: Experiment) -> None:
    """Let the experiment take effect."""
    write_experiment(paths.experiments, experiment)
    reason = (
        f"experiment {experiment.name} begins: {experiment.share:.0%} of the viewers, {experiment.metric} against"
        f" version {experiment.control}"
    )
    _decided(paths, experiment, reason, {"share": experiment.share})
    plan = TrafficPlan(
        use_case=_USE_CASE,
        mode="experiment",
        version=experiment.treatment,
        name=experiment.name,
        share=experiment.share,
        salt=experiment.salt,
        since=experiment.started,
    )
    write_plan(paths.bundles, plan)


def end(paths: StatePaths, experiment: Experiment, report: ExperimentReport) -> None:
    """Let the champion answer alone, and keep the result; a plan that is not this experiment's stays."""
    plan = read_plan(paths.bundles, _USE_CASE)
    if plan is not None and plan.mode == "experiment" and plan.name == experiment.name:
        clear_plan(paths.bundles, _USE_CASE)
    effect = report.effect
    figures = {} if effect is None else {"effect": effect.value, "low": effect.low, "high": effect.high}
    viewers = float(report.treatment.analysed + report.control.analysed)
    reason = f"experiment {experiment.name} ends: {report.verdict}"
    _decided(paths, experiment, reason, figures | {"viewers": viewers})
    # Last: until then the experiment can be stopped again.
    write_experiment(paths.experiments, experiment)


def _decided(paths: StatePaths, experiment: Experiment, reason: str, figures: dict[str, float]) -> None:
    decision = LoggedDecision(
        event_timestamp=experiment.stopped or experiment.started,
        use_case=_USE_CASE,
        kind="experiment",
        version=experiment.treatment,
        previous=experiment.control,
        reasons=(reason,),
        figures=figures,
    )
    append_decision(paths.bundles, decision)
