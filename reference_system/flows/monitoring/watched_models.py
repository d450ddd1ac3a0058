"""The models that monitoring watches: verified bundles, each as a function that scores rows."""

from __future__ import annotations

import numpy as np

from reference_system.arrays import Floats
from reference_system.errors import BundleRefused
from reference_system.flows.model_history import previous_champion
from reference_system.flows.prefect_steps import say, warn
from reference_system.monitoring.monitoring_run import WatchedChampion
from reference_system.monitoring.remembered_scores import RememberedScores
from reference_system.paths import StatePaths
from reference_system.registry.bundles.bundle import MODEL, current_version, load_bundle, version_folder
from reference_system.registry.release.releases import read_release
from reference_system.settings import Settings


def other_versions(
    settings: Settings, use_case: str, signature: tuple[str, ...], memory: RememberedScores
) -> list[WatchedChampion]:
    """The champion before, and the version that is being released: to be compared on the same payments."""
    root = StatePaths(settings.state_dir).bundles
    release, present = read_release(root, use_case), current_version(root, use_case)
    versions = (previous_champion(root, use_case), release.version if release else None)
    found = (
        _watched(settings, use_case, version, signature, memory)
        for version in dict.fromkeys(versions)
        if version is not None
    )
    return [one for one in found if one is not None and one.version != present]


def watched_champion(
    settings: Settings, use_case: str, signature: tuple[str, ...], memory: RememberedScores | None = None
) -> WatchedChampion | None:
    """The verified bundle that serving answers with, or `None` with a line in the log."""
    version = current_version(StatePaths(settings.state_dir).bundles, use_case)
    if version is None:
        say(f"{use_case}: no champion yet")
        return None
    return _watched(settings, use_case, version, signature, memory)


def _watched(
    settings: Settings, use_case: str, version: str, signature: tuple[str, ...], memory: RememberedScores | None
) -> WatchedChampion | None:
    root = StatePaths(settings.state_dir).bundles
    try:
        bundle = load_bundle(version_folder(root, use_case, version), use_case=use_case, inputs=signature)
    except BundleRefused as error:
        warn(f"{use_case}: version {version} cannot be used as a reference: {error}")
        return None

    def score(inputs: Floats) -> Floats:
        return bundle.scorer.score(inputs.astype(np.float32)).astype(np.float64)

    thresholds = bundle.manifest.thresholds
    return WatchedChampion(
        version=version,
        learned_until=bundle.manifest.data_window.end,
        metrics=bundle.manifest.metrics,
        score=score if memory is None else lambda inputs: memory.of(bundle.manifest.files[MODEL], inputs, score),
        review=thresholds.review if thresholds else None,
    )
