"""Old versions: what neither answers nor may answer again goes, from MLflow and from the folder of bundles.

In: promotion log, release, traffic plan, MLflow's aliases. Out: at most `KEPT_VERSIONS` versions a use case and those
that have a part to play; model cards and the promotion log keep what was decided about all.
Invariant: the champion, those that it can be rolled back to, and whoever stands beside it keep their bundles and runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from reference_system.monitoring.report.mlflow_figures import MONITORING_EXPERIMENT as MONITORING
from reference_system.paths import StatePaths
from reference_system.registry import mlflow_upkeep
from reference_system.registry.bundles.bundle import current_version, version_folder
from reference_system.registry.promotion_log import read_decisions
from reference_system.registry.release.releases import read_release
from reference_system.registry.traffic import read_plan
from reference_system.settings import Settings

KEPT_VERSIONS = 10
# Champions of before that one may still want to go back to.
_KEPT_CHAMPIONS = 3
# Two a day of event time.
_KEPT_REPORTS = 200


def forget_old_versions(settings: Settings, use_case: str) -> list[str]:
    """Forget them, and old monitoring runs; the versions that are gone.

    Raises:
        ServiceError: if MLflow does not answer.
    """
    paths, url = StatePaths(settings.state_dir), settings.url("mlflow")
    keep = kept_versions(paths.bundles, use_case, mlflow_upkeep.versions_of(url, use_case))
    gone = mlflow_upkeep.forget(url, paths.mlflow, use_case, keep=keep)
    mlflow_upkeep.forget_runs(url, paths.mlflow, MONITORING, keep=_KEPT_REPORTS)
    for version in _here(paths.bundles, use_case) - keep:
        shutil.rmtree(version_folder(paths.bundles, use_case, version))
    return gone


def kept_versions(root: Path, use_case: str, registered: Mapping[str, Sequence[str]]) -> set[str]:
    """The newest versions, and those that have a part to play.

    Args:
        root: the folder of the bundles.
        use_case: whose.
        registered: what MLflow knows: each version with its aliases.
    """
    newest = sorted(registered.keys() | _here(root, use_case), key=int)[-KEPT_VERSIONS:]
    logged = [one.version for one in read_decisions(root, use_case) if one.kind == "champion"]
    champions = list(dict.fromkeys(version for version in reversed(logged) if version))[:_KEPT_CHAMPIONS]
    release, plan = read_release(root, use_case), read_plan(root, use_case)
    beside = [None if release is None else release.version, None if plan is None else plan.version]
    aliased = [version for version, aliases in registered.items() if aliases]
    players = (*newest, *champions, *beside, *aliased, current_version(root, use_case))
    return {version for version in players if version is not None}


def _here(root: Path, use_case: str) -> set[str]:
    return {folder.name for folder in (root / use_case).glob("*") if folder.name.isdigit()}
