"""What `workbook models promote` and `rollback` do: end what is on, move the pointer, watch serving follow.

In: a use case and a version. Out: what happened, with the seconds until serving answered with the version.
Invariant: the bundle is verified before anything is ended; a serving or an MLflow that is away stops nothing.
"""

from __future__ import annotations

from pathlib import Path
from time import monotonic, sleep

import msgspec

from reference_system.clock import SimulatedClock
from reference_system.errors import StateError
from reference_system.paths import StatePaths
from reference_system.registry import promotion as promoting
from reference_system.registry.bundles.bundle import current_version, version_folder
from reference_system.registry.model_list import gate_decision
from reference_system.registry.promotion_log import LoggedDecision, append_decision
from reference_system.registry.release import releases
from reference_system.settings import Settings
from reference_system.stack.metrics_page import read_metrics

_PATIENCE_SECONDS, _LOOK_SECONDS = 10.0, 0.05


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A champion was made; `serving_seconds` is `None` where serving did not answer with it."""

    use_case: str
    version: str
    previous: str | None
    serving_seconds: float | None
    notes: tuple[str, ...]


def require_gate(root: Path, use_case: str, version: str, *, force: bool) -> None:
    """Refuse a version that the gate did not let through, unless it is forced.

    Raises:
        StateError: with the gate's reason.
    """
    said = gate_decision(root, use_case, version)
    answer = said.reasons[0] if said is not None and said.reasons else None
    if said is not None and answer in ("refuse", "hold") and not force:
        why = said.reasons[1] if len(said.reasons) > 1 else ""
        raise StateError(
            f"the gate's answer to version {version} of {use_case} was {answer}: {why}",
            next_command=f"workbook models promote {use_case} {version} --force",
        )


def promote_by_hand(settings: Settings, use_case: str, version: str) -> Moved:
    """Make a version champion by hand.

    Raises:
        BundleRefused: if its bundle is not what training wrote.
        StateError: if it is champion already.
    """
    root = StatePaths(settings.state_dir).bundles
    previous = current_version(root, use_case)
    if version == previous:
        raise StateError(
            f"version {version} is the champion of {use_case} already", next_command="workbook models list"
        )
    return _move(settings, use_case, version, "promoted by hand")


def roll_back(settings: Settings, use_case: str, to: str | None) -> Moved:
    """Go back to a champion of before; the present one counts as rolled back from now on.

    Raises:
        BundleRefused: if that one's bundle is not what training wrote.
        StateError: if there is no other champion to go back to.
    """
    root = StatePaths(settings.state_dir).bundles
    version, present = to or promoting.champion_to_restore(root, use_case), current_version(root, use_case)
    if version == present or present is None:
        raise StateError(f"{use_case} has nothing to roll back from", next_command=f"workbook models list {use_case}")
    return _move(settings, use_case, version, f"rolled back from version {present} by hand", back_from=present)


def _move(settings: Settings, use_case: str, version: str, why: str, *, back_from: str | None = None) -> Moved:
    began = monotonic()
    root = StatePaths(settings.state_dir).bundles
    _verify(root, use_case, version)
    now, previous = SimulatedClock(StatePaths(settings.state_dir).clock).now(), current_version(root, use_case)
    ended = releases.abort(root, use_case, reason=f"version {version}: {why}", now=now)
    if back_from is not None:
        rolled = LoggedDecision(
            event_timestamp=now,
            use_case=use_case,
            kind="rolled back",
            version=back_from,
            previous=back_from,
            reasons=(f"rolled back by hand to version {version}",),
        )
        append_decision(root, rolled)
    decision = LoggedDecision(
        event_timestamp=now, use_case=use_case, version=version, previous=previous, reasons=(why,)
    )
    promoting.make_champion(root, settings.port("mlflow"), use_case=use_case, version=version, decision=decision)
    notes = [f"the release of version {ended.version} was ended"] if ended is not None else []
    if promoting.alias_is_owed(root, use_case):
        notes.append("MLflow does not answer: its alias follows when it does")
    seconds = _until_served(settings, use_case, version, began)
    notes.append(
        "serving does not answer; it starts with this version"
        if seconds is None
        else f"serving answers with it after {seconds:.1f} s"
    )
    return Moved(use_case=use_case, version=version, previous=previous, serving_seconds=seconds, notes=tuple(notes))


def _verify(root: Path, use_case: str, version: str) -> None:
    if not version_folder(root, use_case, version).is_dir():
        raise StateError(
            f"{use_case} has no version {version} on this machine", next_command=f"workbook models list {use_case}"
        )
    promoting.verify_version(root, use_case, version)


def _until_served(settings: Settings, use_case: str, version: str, began: float) -> float | None:
    """Seconds until the service says that it answers with the version; `None` if it is away."""
    while monotonic() - began < _PATIENCE_SECONDS:
        try:
            page = read_metrics(settings.port("serving"))
        except OSError:
            return None
        if page.value("workbook_model_info", use_case=use_case, version=version):
            return monotonic() - began
        sleep(_LOOK_SECONDS)
    return None
