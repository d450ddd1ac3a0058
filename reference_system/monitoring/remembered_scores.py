"""Scores that were computed in an earlier look: most rows of a look were rows of the one before.

In: a model's digest, rows. Out: its scores; the model is asked only for rows that it has not scored yet.
Invariant: a score is remembered under the row's own bytes and the model's digest, so none can be of another row or
model; a file that is gone or damaged means that everything is scored again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.replaced_files import replace_file

Keys = NDArray[np.uint64]


class ScoredRows(NamedTuple):
    """Rows by their key, ascending, and the score of each; shapes (n,)."""

    keys: Keys
    scores: Floats


class RememberedScores:
    """The scores of one look, beside those of the last one; `save` keeps what this one asked for."""

    def __init__(self, file: Path) -> None:
        """Read what the last look has left in this file."""
        self._file = file
        self._before = _read(file)
        self._now: dict[str, list[ScoredRows]] = {}

    def of(self, model: str, inputs: Floats, score: Callable[[Floats], Floats]) -> Floats:
        """The scores of these rows.

        Args:
            model: whose scores, by the digest of its file.
            inputs: shape (n, inputs of the model).
            score: asked for the rows that are not known, shape (m, inputs of the model); gives shape (m,).
        """
        keys = keys_of(inputs)
        before = self._before.get(model, ScoredRows(np.empty(0, np.uint64), np.empty(0)))
        places = np.searchsorted(before.keys, keys)
        places[places == len(before.keys)] = 0
        known = before.keys[places] == keys if len(before.keys) else np.zeros(len(keys), bool)
        scores = np.empty(len(keys))
        scores[known] = before.scores[places[known]]
        if not known.all():
            scores[~known] = score(inputs[~known])
        self._now.setdefault(model, []).append(ScoredRows(keys, scores))
        return scores

    def save(self) -> None:
        """Keep what was asked for, for the next look."""
        packed = {}
        for model, parts in self._now.items():
            keys, first = np.unique(np.concatenate([part.keys for part in parts]), return_index=True)
            packed[model] = (keys.tobytes(), np.concatenate([part.scores for part in parts])[first].tobytes())
        replace_file(self._file, msgspec.msgpack.encode(packed))


def keys_of(inputs: Floats) -> Keys:
    """A number of 64 bits for each row; two different ones of a million have the same with a chance of 3e-8."""
    rows = np.ascontiguousarray(inputs, np.float64).view(np.uint64)
    key = np.zeros(len(rows), np.uint64)
    for column in rows.T:
        # The mixing step of MurmurHash3: each bit of what was there changes half of the others.
        key = (key ^ column) * np.uint64(0xFF51AFD7ED558CCD)
        key ^= key >> np.uint64(33)
    return key


def _read(file: Path) -> dict[str, ScoredRows]:
    try:
        packed = msgspec.msgpack.decode(file.read_bytes(), type=dict[str, tuple[bytes, bytes]])
        found = {
            model: ScoredRows(np.frombuffer(keys, np.uint64), np.frombuffer(scores))
            for model, (keys, scores) in packed.items()
        }
    except (OSError, ValueError):  # MsgspecError is a ValueError, as numpy's are
        return {}
    return {model: part for model, part in found.items() if len(part.keys) == len(part.scores)}
