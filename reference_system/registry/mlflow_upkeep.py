"""Upkeep of MLflow: what old versions and old runs leave in its database and on the disk goes.

In: the versions that stay; where the server and its files are. Out: versions, runs, logged models and artefacts that
are neither those nor newer are gone for good.
Invariant: a version that stays keeps its run, the candidates beneath it and every artefact.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from mlflow import MlflowClient
from mlflow.cli import gc
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from reference_system.errors import ServiceError

_PAGE = 200


def versions_of(url: str, use_case: str) -> dict[str, list[str]]:
    """Each registered version with its aliases.

    Raises:
        ServiceError: if MLflow does not answer.
    """
    try:
        return {str(one.version): list(one.aliases) for one in _versions(MlflowClient(url), use_case)}
    except MlflowException as error:
        raise ServiceError(f"MLflow at {url} does not list its versions: {error}") from error


def forget(url: str, home: Path, use_case: str, *, keep: Collection[str]) -> list[str]:
    """Delete the versions of a use case that do not stay, and every run that is older than the oldest that stays.

    Args:
        url: the server's address.
        home: its folder: database and artefacts.
        use_case: whose.
        keep: the versions that stay.

    Returns:
        The versions that are gone.

    Raises:
        ServiceError: if MLflow does not answer.
    """
    client = MlflowClient(url)
    try:
        found = _versions(client, use_case)
        gone = [one for one in found if str(one.version) not in keep]
        if not gone:
            return []
        for one in gone:
            client.delete_model_version(use_case, one.version)
        _delete_runs(client, use_case, {str(one.run_id) for one in gone})
        _collect(url, home)
    except MlflowException as error:
        raise ServiceError(f"MLflow at {url} did not forget old versions: {error}") from error
    return [str(one.version) for one in gone]


def forget_runs(url: str, home: Path, experiment: str, *, keep: int) -> int:
    """Delete all runs of an experiment but the newest `keep`; how many that were.

    Raises:
        ServiceError: if MLflow does not answer.
    """
    client = MlflowClient(url)
    try:
        old = _runs(client, experiment)[keep:]
        for run in old:
            client.delete_run(run.info.run_id)
        if old:
            _collect(url, home)
    except MlflowException as error:
        raise ServiceError(f"MLflow at {url} did not forget old runs: {error}") from error
    return len(old)


def _versions(client: MlflowClient, use_case: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{use_case}'", max_results=_PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return found


def _runs(client: MlflowClient, experiment: str) -> list[Run]:
    """The runs of an experiment, the newest first."""
    known = client.get_experiment_by_name(experiment)
    if known is None:
        return []
    found: list[Run] = []
    token = None
    while True:
        page = client.search_runs(
            [known.experiment_id], order_by=["attributes.start_time DESC"], max_results=_PAGE, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def _delete_runs(client: MlflowClient, experiment: str, gone: Collection[str]) -> None:
    """The runs of versions that are gone, the candidates beneath them and the models that they logged."""
    runs = _runs(client, experiment)
    for run in runs:
        if run.info.run_id in gone or run.data.tags.get(MLFLOW_PARENT_RUN_ID) in gone:
            client.delete_run(run.info.run_id)
    for run in (run for run in runs if run.info.run_id in gone):
        of_run = f"source_run_id = '{run.info.run_id}'"
        for model in client.search_logged_models([run.info.experiment_id], filter_string=of_run):
            client.delete_logged_model(model.model_id)


def _collect(url: str, home: Path) -> None:
    """Remove what was deleted from the database and the disk: until then MLflow could bring it back."""
    with redirect_stdout(StringIO()):
        gc.main(
            [
                *("--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}"),
                *("--artifacts-destination", str(home / "artifacts")),
                *("--tracking-uri", url),
            ],
            standalone_mode=False,
        )
