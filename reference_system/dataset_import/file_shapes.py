"""File shapes: what a file of each use case holds, and the events that its rows are.

In: rows with typed columns. Out: for each topic the columns of its record.
Invariant: a row's events follow from the row and the label delay alone, ids included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import pyarrow as pa

from reference_system.events import Topic
from reference_system.use_case import UseCase, case_module

ROW = "source_row"
ColumnKind = Literal["id", "moment", "amount", "rating", "flag"]
# The event's field → the file's, where they differ.
FIELD_OF = {"viewer_id": "user_id", "video_id": "item_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShape:
    """One use case's file.

    `identified` adds the event id to rows. `events` gives the records' columns by topic, each with the number of the
    row (`source_row`) that it comes from.
    """

    use_case: str
    what: str  # what a row is, in the plural
    fields: Mapping[str, ColumnKind]
    event_id: str  # the column that identifies a row: a field, or made of fields
    identity: str  # what it is in the words of a file
    content: tuple[str, ...]  # what must be equal where the id is
    contradiction: str  # what else is called where it is not
    entities: tuple[str, ...]  # the fields of the first topic that name somebody or something
    topics: tuple[Topic, ...]  # of the first there is one event for each row
    held: str  # SQL over tables named as the topics: event id and content of what a lake holds
    identified: Callable[[pa.Table], pa.Table]
    events: Callable[[pa.Table, timedelta], dict[Topic, pa.Table]]


def file_shape(use_case: UseCase) -> FileShape:
    """What a file of the use case holds: `SHAPE` in `dataset_import/<use case>.py`.

    Raises:
        WorkbookError: if there is no such use case.
    """
    shape: FileShape = case_module(__package__, use_case).SHAPE
    return shape
