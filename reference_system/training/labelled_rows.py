"""Labelled rows: what an estimator is fitted to and judged on.

In: joined features. Out: arrays of one length.
Invariant: inputs are float32, as the served model takes them, so that no threshold of a tree flips on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from reference_system.arrays import Floats, Floats32, Ints, Micros
from reference_system.errors import TrainingError
from reference_system.training.temporal_split import Span


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRows:
    """Rows in their canonical order; shapes (n, width), and (n,) for the others.

    `groups` numbers the card or the viewer of each row: rows of one group are not independent of one another.
    """

    inputs: Floats32
    labels: Floats
    groups: Ints
    times: Micros

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.labels)

    def digest(self) -> str:
        """The same for the same rows, whoever computes them."""
        arrays = (self.inputs, self.labels, self.groups, self.times)
        return sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def canonical_order(times: Micros, inputs: Floats32, *labels: Floats) -> Ints:
    """The order of rows by their moments, those of one moment by what they hold; shape (n,).

    Estimators draw rows and add them up by their places: neither ids nor the order of a file may decide on those.
    """
    order = np.argsort(times, kind="stable")
    same = np.diff(times[order]) == 0
    # Few rows share their moment with another one: only those are looked at.
    tied = np.flatnonzero(np.append(same, [False]) | np.append([False], same))
    rows = order[tied]
    order[tied] = rows[np.lexsort((*inputs[rows].T[::-1], *(each[rows] for each in labels[::-1]), times[rows]))]
    return order


def require_both_classes(labels: Floats, what: str, span: Span) -> None:
    """Refuse a window without rows, or with one kind of outcome.

    Raises:
        TrainingError: with the window and what it lacks.
    """
    positives = int(labels.sum())
    if 0 < positives < len(labels):
        return
    lack = f"has {len(labels)} rows and {positives} positive labels" if len(labels) else "has no rows"
    raise TrainingError(
        f"the {what} window from {span} {lack}; a model needs both outcomes", next_command="workbook status"
    )
