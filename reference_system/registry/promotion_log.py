"""The promotion log: what was decided about models, when and why. MLflow keeps no history of where an alias pointed.

In: decisions. Out: one more line of `promotions.jsonl` each. Invariant: lines are only ever added, each whole.
"""

from __future__ import annotations

import fcntl
import os
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from reference_system.errors import StateError

PROMOTIONS = "promotions.jsonl"
# In the order in which a good challenger meets them.
DecisionKind = Literal[
    "alarm", "retraining", "skipped", "gate", "shadow", "canary", "champion", "rolled back", "experiment"
]


class LoggedDecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something was decided at a moment of event time.

    `version` is the model version that it is about, where it is about one; `previous` the champion at that moment.
    `figures` are the numbers that decided.
    """

    event_timestamp: datetime
    use_case: str
    kind: DecisionKind = "champion"
    version: str | None = None
    previous: str | None = None
    reasons: tuple[str, ...] = ()
    figures: dict[str, float] = {}


def append_decision(root: Path, decision: LoggedDecision) -> None:
    """Add a line; it is on the disk when this returns.

    What a writer that was killed left of its line is removed: nobody was told that it was written.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / PROMOTIONS).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(msgspec.json.encode(decision) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_decisions(root: Path, use_case: str | None = None) -> list[LoggedDecision]:
    """Every decision, or those about one use case, the oldest first.

    Raises:
        StateError: if a line is not what this module wrote.
    """
    path = root / PROMOTIONS
    whole, _, _ = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    try:
        decisions = [msgspec.json.decode(line, type=LoggedDecision) for line in whole.splitlines()]
    except msgspec.MsgspecError as error:
        raise StateError(f"{path} cannot be read: {error}", next_command=f"less {path}") from error
    return [each for each in decisions if use_case in (None, each.use_case)]
