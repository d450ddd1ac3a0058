"""Chunks: some rows of a file, whatever kind of file it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# Row number, what is wrong with it, the beginning of the line.
Broken = tuple[int, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows: their numbers, the wanted columns, and how much of the file has been read (0 to 1).

    `broken` are lines of CSV that are no rows; their numbers are no others'.
    """

    numbers: NDArray[np.int64]
    columns: dict[str, pa.Array]
    share: float
    broken: tuple[Broken, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows of the file these are, whatever they are worth."""
        return len(self.numbers) + len(self.broken)
