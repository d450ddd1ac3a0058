"""`workbook run bootstrap`: the bring-up step between a history and a system that can answer.

In: the history in the lake, MLflow and Prefect. Out: features offline and online, a champion of each use case with its
verified bundle on this machine.
Invariant: what is there is not done twice, so it can be interrupted anywhere and begun again.

One process does it all: Feast, MLflow, Prefect and scikit-learn are imported once.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, cast

import typer

from reference_system.errors import BundleRefused, TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reference_system.paths import StatePaths
    from reference_system.settings import Settings
    from reference_system.use_case import UseCase


def main(settings: Settings) -> None:
    """Do what is missing; one line with its time for each phase."""
    from reference_system.paths import StatePaths
    from reference_system.use_case import USE_CASES

    paths = StatePaths(settings.state_dir)
    with _phase("libraries imported"):
        from reference_system.flows import prefect_train  # noqa: F401 - the import is the phase
        from reference_system.registry import mlflow_registry
    mlflow_registry.use_mlflow(settings.url("mlflow"))
    _make_features(paths)
    for use_case in USE_CASES:
        _make_champion(use_case, paths)
        _bring_bundle(use_case, paths)


def _make_features(paths: StatePaths) -> None:
    from reference_system.features.feast import store as feast_store
    from reference_system.features.feast.feature_tables import complete_until, remove_mark
    from reference_system.features.stream.snapshot import task_files
    from reference_system.features.stream.task_file import forget_pushed
    from reference_system.flows.prefect_etl import etl
    from reference_system.stack.database_checks import has_tables

    if not has_tables(paths.online_store):
        # Whatever else is there: everything is to be materialized, and pushed when ingestion starts.
        remove_mark(paths.feature_tables)
        forget_pushed(task_files(paths.stream_tasks).values())
    with _phase("Feast's registry and online store applied"):
        feast_store.apply(feast_store.open_store(paths))
    if complete_until(paths.feature_tables) is not None:
        typer.echo("feature tables are there; the scheduled ETL keeps them up")
        return
    with _phase("ETL over the history"):
        etl()


def _make_champion(use_case: UseCase, paths: StatePaths) -> None:
    """Train until there is a champion, which is once.

    Raises:
        TrainingError: if the gate does not let the first model through.
    """
    from reference_system.flows.prefect_train import train

    version = _champion_version(use_case, paths)
    if version is not None:
        typer.echo(f"{use_case}: version {version} is champion")
        return
    with _phase(f"{use_case}: first model trained"):
        summary = train(use_case)
    reasons = cast("list[str]", summary["reasons"])
    typer.echo(f"{use_case}: version {summary['version']}, {summary['answer']}: {'; '.join(reasons)}")
    if summary["answer"] != "promote":
        raise TrainingError(
            f"{use_case}: the first model {reasons[0]}; a larger world teaches more",
            next_command="cat docs/settings.md",
        )


def _bring_bundle(use_case: UseCase, paths: StatePaths) -> None:
    """The champion's bundle, verified, with the pointer on it: fetched only if what is here cannot be loaded."""
    from reference_system.flows.training.trained_model import selection_spec_of
    from reference_system.registry.bundles.bundle import load_bundle, set_current, version_folder
    from reference_system.registry.mlflow_registry import fetch_bundle

    version = _champion_version(use_case, paths)
    if version is None:
        raise TrainingError(f"{use_case} has no champion", next_command=f"workbook train {use_case}")
    folder, inputs = version_folder(paths.bundles, use_case, version), tuple(selection_spec_of(use_case).inputs)
    try:
        load_bundle(folder, use_case=use_case, inputs=inputs)
    except BundleRefused as refused:
        typer.echo(f"{refused}; fetched from the registry")
        fetch_bundle(use_case, version, paths.bundles)
        load_bundle(folder, use_case=use_case, inputs=inputs)
    set_current(paths.bundles, use_case, version)


def _champion_version(use_case: UseCase, paths: StatePaths) -> str | None:
    """Whom the pointer names; where there is none yet, or it is damaged, the registry's."""
    from reference_system.registry.bundles.bundle import current_version, version_folder
    from reference_system.registry.mlflow_registry import champion_version

    named = current_version(paths.bundles, use_case)
    if named is not None:
        with suppress(BundleRefused):
            version_folder(paths.bundles, use_case, named)
            return named
    return champion_version(use_case)


@contextmanager
def _phase(title: str) -> Iterator[None]:
    began = monotonic()
    yield
    typer.echo(f"{title} ({monotonic() - began:.1f} s)")
