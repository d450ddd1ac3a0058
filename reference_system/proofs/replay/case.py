"""What a replay needs of a use case, and where it finds it: `proofs/replay/<use case>.py`, in `CASE`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from reference_system.events import Event, Topic
from reference_system.serving.feature_reads import ReadStates
from reference_system.use_case import UseCase, case_module
from reference_system.windows import WindowedView


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayCase:
    """One use case: the topic of the requests, the views they read, the served vector, the result from history."""

    asking: Topic
    views: tuple[WindowedView, ...]
    names: tuple[str, ...]
    serve: Callable[[Event, ReadStates], Sequence[float]]
    history: Callable[[Path, Path], pa.Table]


def replay_case(use_case: UseCase) -> ReplayCase:
    """What a replay needs of the use case.

    Raises:
        WorkbookError: if there is no such use case.
    """
    case: ReplayCase = case_module(__package__, use_case).CASE
    return case
