"""Promotions: who was champion when. MLflow keeps no history of where an alias pointed.

In: a promotion. Out: one more line of `promotions.jsonl`. Invariant: lines are only ever added, each whole.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec

PROMOTIONS = "promotions.jsonl"


class Promotion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A version became champion at a moment of event time; `previous` is `None` for the first."""

    event_timestamp: datetime
    use_case: str
    version: str
    previous: str | None
    reasons: tuple[str, ...]


def append_promotion(root: Path, promotion: Promotion) -> None:
    """Add a line; it is on the disk when this returns."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / PROMOTIONS).open("ab") as file:
        file.write(msgspec.json.encode(promotion) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_promotions(root: Path) -> list[Promotion]:
    """Every promotion, the oldest first."""
    path = root / PROMOTIONS
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Promotion) for line in lines]
