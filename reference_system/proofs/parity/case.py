"""What parity needs of a use case, and where it finds it: `proofs/parity/<use case>.py`, in `CASE`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reference_system.arrays import Floats, Ints
from reference_system.events import Topic
from reference_system.proofs.parity.logged_rows import LoggedRows
from reference_system.proofs.parity.questions import Questions
from reference_system.use_case import UseCase, case_module
from reference_system.windows import WindowedView

# From the features of the two views, and the rows that they are for, to the model's input rows.
Assemble = Callable[[Floats, Floats, Ints], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityCase:
    """One use case, as parity sees it.

    `event` is the event that a prediction is about: its id is the prediction's `request_id`. `views` are the two views
    that it is evaluated from. `by_item` says whether a prediction has one input row for each item. `questions` takes
    the lake, the rows and the served values.
    """

    event: Topic
    views: tuple[WindowedView, WindowedView]
    by_item: bool
    questions: Callable[[Path, LoggedRows, Floats], tuple[Questions, Questions, Assemble]]


def parity_case(use_case: UseCase) -> ParityCase:
    """What parity needs of the use case.

    Raises:
        WorkbookError: if there is no such use case.
    """
    case: ParityCase = case_module(__package__, use_case).CASE
    return case
