"""Promoting: who is champion from now on.

In: a version and the decision that makes it champion. Out: the pointer moved, a line in the promotion log, the alias
in MLflow moved.
Invariant: the pointer only ever moves to a bundle that was verified, and it alone says who is champion. The log and
the alias follow it; where a crash or an absent MLflow kept them from following, `reconcile_champion` mends them.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from reference_system.errors import ServiceError, StateError
from reference_system.registry import mlflow_rest
from reference_system.registry.bundles.bundle import (
    current_version,
    load_bundle,
    read_bundle_manifest,
    set_current,
    version_folder,
)
from reference_system.registry.promotion_log import LoggedDecision, append_decision, read_decisions

CHAMPION, CHALLENGER = "champion", "challenger"
# Beside the pointer while MLflow's alias has not followed it.
ALIAS_OWED = "alias-owed"


def make_champion(root: Path, mlflow_port: int, *, use_case: str, version: str, decision: LoggedDecision) -> None:
    """Verify the version's bundle, move the pointer, append the decision, move the alias.

    Called again after a crash anywhere, it ends in the same state: a decision that is in the log is not added again.

    Args:
        root: the folder of the bundles.
        mlflow_port: where MLflow listens; if it does not, the alias follows at the next `reconcile_champion`.
        use_case: whose champion.
        version: the new champion.
        decision: what the log will say.

    Raises:
        BundleRefused: if the bundle is not what training wrote; then nothing has changed.
    """
    verify_version(root, use_case, version)
    _owe(root, use_case)
    set_current(root, use_case, version)
    if decision not in read_decisions(root, use_case):
        append_decision(root, decision)
    settle_alias(root, mlflow_port, use_case)


def verify_version(root: Path, use_case: str, version: str) -> None:
    """Load the version's bundle as serving would.

    Raises:
        BundleRefused: if serving would refuse it.
    """
    folder = version_folder(root, use_case, version)
    load_bundle(folder, use_case=use_case, inputs=read_bundle_manifest(folder).inputs)


def settle_alias(root: Path, mlflow_port: int, use_case: str) -> bool:
    """Move MLflow's alias to the pointer, if it is owed; whether nothing is owed any more."""
    if not alias_is_owed(root, use_case):
        return True
    version = current_version(root, use_case)
    try:
        if version is not None:
            mlflow_rest.set_alias(mlflow_port, use_case, CHAMPION, version)
            _tag_moment(root, mlflow_port, use_case, version)
        if mlflow_rest.get_alias(mlflow_port, use_case, CHALLENGER) == version:
            mlflow_rest.delete_alias(mlflow_port, use_case, CHALLENGER)
    except ServiceError:
        return False
    (root / use_case / ALIAS_OWED).unlink(missing_ok=True)
    return True


def alias_is_owed(root: Path, use_case: str) -> bool:
    """Whether the pointer moved and MLflow's alias did not: until then the alias names the champion of before."""
    return (root / use_case / ALIAS_OWED).exists()


def reconcile_champion(root: Path, mlflow_port: int, *, use_case: str, now: datetime) -> None:
    """Let log and alias follow the pointer, where a crash, or a person in MLflow's own page, left them apart."""
    settle_alias(root, mlflow_port, use_case)
    pointer, logged = current_version(root, use_case), champion_in_log(root, use_case)
    if pointer is not None and (pointer != logged or pointer in rolled_back(root, use_case)):
        reason = "the pointer names it: it was moved in MLflow's page, or a crash came between pointer and log"
        append_decision(
            root,
            LoggedDecision(
                event_timestamp=now, use_case=use_case, version=pointer, previous=logged, reasons=(reason,)
            ),
        )


def champion_in_log(root: Path, use_case: str) -> str | None:
    """The version that the log last called champion."""
    return next((one.version for one in reversed(read_decisions(root, use_case)) if one.kind == "champion"), None)


def champion_to_restore(root: Path, use_case: str) -> str:
    """The version to go back to: the last champion that is neither the present one nor rolled back.

    Raises:
        StateError: if there is none.
    """
    present, refused = current_version(root, use_case), rolled_back(root, use_case)
    for one in reversed(read_decisions(root, use_case)):
        if one.kind == "champion" and one.version is not None and one.version not in {present, *refused}:
            return one.version
    raise StateError(
        f"{use_case} has had no other champion to go back to", next_command=f"workbook models list {use_case}"
    )


def rolled_back(root: Path, use_case: str) -> set[str]:
    """The versions that were rolled back, and not promoted by a person since."""
    found: set[str] = set()
    for one in read_decisions(root, use_case):
        if one.version is not None and one.kind == "rolled back":
            found.add(one.version)
        elif one.version is not None and one.kind == "champion":
            found.discard(one.version)
    return found


def _tag_moment(root: Path, mlflow_port: int, use_case: str, version: str) -> None:
    """The version remembers when it became champion."""
    for one in reversed(read_decisions(root, use_case)):
        if one.kind == "champion" and one.version == version:
            moment = one.event_timestamp.isoformat()
            mlflow_rest.set_version_tag(mlflow_port, use_case, version, "promoted_event_timestamp", moment)
            return


def _owe(root: Path, use_case: str) -> None:
    (root / use_case).mkdir(parents=True, exist_ok=True)
    (root / use_case / ALIAS_OWED).touch()
