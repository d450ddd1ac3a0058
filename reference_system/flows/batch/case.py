"""What batch scoring needs of a use case, and where it finds it: `flows/batch/<use case>.py`, in `CASE`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from reference_system.arrays import Floats
from reference_system.flows.batch.partitions import Passed, Written
from reference_system.paths import StatePaths
from reference_system.use_case import UseCase, case_module


class WriteBatch(Protocol):
    """Writes the file of a batch; `day` is an ISO date, or `None` for the newest that can be scored."""

    def __call__(
        self, paths: StatePaths, day: str | None, *, force: bool, passed: Passed, tell: Callable[[str], None]
    ) -> Written:
        """Write it.

        Raises:
            StateError: if it cannot be scored; the message says why, and what to do.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCase:
    """One use case, as batch scoring sees it.

    `score_column` is the column of the file that holds the scores, `scores` turns it into one array, shape (n,).
    `of_past_days` says whether a batch is a finished day of the past, so that a range of days can be scored.
    """

    write: WriteBatch
    of_past_days: bool
    score_column: str
    scores: Callable[[pa.ChunkedArray], Floats]


def batch_case(use_case: UseCase) -> BatchCase:
    """What batch scoring needs of the use case.

    Raises:
        WorkbookError: if there is no such use case.
    """
    case: BatchCase = case_module(__package__, use_case).CASE
    return case
