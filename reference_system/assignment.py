"""Assignment: which entities a share of the traffic is made of.

In: an entity key and a salt. Out: a number in [0, 1) that decides.
Invariant: the same entity with the same salt gets the same number, in every process and after every restart; with
another salt the numbers are independent of one another.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal

_BYTES = 8
_WHOLE = float(1 << (8 * _BYTES))

# What a version beside the champion does.
ChallengerMode = Literal["shadow", "canary", "experiment"]


def place_of(entity: str, salt: str) -> float:
    """Where the entity stands in [0, 1); a share s is everyone who stands below s.

    Raises:
        ValueError: if the salt is longer than the 64 bytes that a keyed hash takes.
    """
    digest = blake2b(entity.encode(), digest_size=_BYTES, key=salt.encode()).digest()
    return int.from_bytes(digest, "big") / _WHOLE


def is_in_share(entity: str, salt: str, share: float) -> bool:
    """Whether the entity belongs to the share; nobody to 0, everybody to 1."""
    return place_of(entity, salt) < share
