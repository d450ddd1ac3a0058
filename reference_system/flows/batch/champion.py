"""The champion that a batch is scored with.

In: the state directory and a use case. Out: its verified bundle, or the command that makes one.
"""

from __future__ import annotations

from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.registry.bundles.bundle import (
    MANIFEST_DIGEST,
    Bundle,
    current_version,
    load_bundle,
    version_folder,
)
from reference_system.use_case import UseCase


def champion(paths: StatePaths, use_case: UseCase, inputs: tuple[str, ...]) -> Bundle:
    """The champion of now, whatever day is scored.

    Raises:
        StateError: if there is none yet.
        BundleRefused: if its bundle is not what training wrote.
    """
    version = current_version(paths.bundles, use_case)
    if version is None:
        raise StateError(f"there is no champion for {use_case} yet", next_command=f"workbook train {use_case}")
    return load_bundle(version_folder(paths.bundles, use_case, version), use_case=use_case, inputs=inputs)


def model_digest(bundle: Bundle) -> str:
    """The digest of the bundle's manifest, which holds those of its files."""
    return (bundle.directory / MANIFEST_DIGEST).read_text(encoding="utf-8").strip()
