"""Events as columns: one numpy array per field, one row per event.

In: arrays of equal length. Out: rows selected, joined, split by time, written to plain lists and read back.
Invariant: `times` are microseconds UTC; entities are indices into their population, -1 where a page has no video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats, Micros

# Each annotation states its dtype, because the structure of numpy's alias `NDArray` is internal and changes.
Moments = Annotated[Micros, np.int64]
IdColumn = Annotated[NDArray[np.int64], np.int64]
NumberColumn = Annotated[Floats, np.float64]
FlagColumn = Annotated[NDArray[np.bool_], np.bool_]
TextColumn = Annotated[NDArray[np.str_], "U64"]  # the bound of an id in events.py
WORLD_PAGE_LENGTH = 10
NO_VIDEO = -1
# One row per page, one column per position.
PageIds = Annotated[IdColumn, WORLD_PAGE_LENGTH]
PageNumbers = Annotated[NumberColumn, WORLD_PAGE_LENGTH]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventColumns:
    """The column of every kind: when it happens (or becomes known, or is due)."""

    times: Moments

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.times)

    def take(self, index: NDArray[Any] | slice) -> Self:
        """Select rows by an index, a mask or a slice."""
        return type(self)(**{name: values[index] for name, values in self.arrays().items()})

    def sorted(self) -> Self:
        """The rows ordered by time; those with equal times keep their order."""
        return self.take(np.argsort(self.times, kind="stable"))

    def split(self, until: int) -> tuple[Self, Self]:
        """The rows before `until` and the rest."""
        due = self.times < until
        return self.take(due), self.take(~due)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by field."""
        return {name: getattr(self, name) for name in self.names()}

    def pack(self) -> dict[str, list[Any]]:
        """The rows as plain lists, for the checkpoint."""
        return {name: values.tolist() for name, values in self.arrays().items()}

    @classmethod
    def names(cls) -> list[str]:
        """The names of the columns."""
        return [column.name for column in fields(cls)]

    @classmethod
    def unpack(cls, lists: Mapping[str, Sequence[Any]]) -> Self:
        """The inverse of `pack`."""
        count = len(lists["times"])
        return cls(
            **{
                name: np.array(lists[name], dtype).reshape(count, *shape)
                for name, (dtype, shape) in _layout(cls).items()
            }
        )

    @classmethod
    def empty(cls) -> Self:
        """No rows."""
        return cls.unpack({name: [] for name in _layout(cls)})

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, in their order."""
        if not parts:
            return cls.empty()
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.names()})


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentColumns(EventColumns):
    """Card payments."""

    customers: IdColumn
    terminals: IdColumn
    amounts: NumberColumn
    frauds: FlagColumn  # the ground truth, known only from chargebacks, days later


@dataclass(frozen=True, slots=True, kw_only=True)
class Chargebacks(EventColumns):
    """Disputed payments; `times` is when the dispute becomes known, `paid` the payment's time.

    `reports` is 0 for a payment's first chargeback, 1 for its second. In reversals `times` is when it is reversed.
    """

    paid: Moments
    customers: IdColumn
    terminals: IdColumn
    reports: IdColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class Publications(EventColumns):
    """New videos."""

    videos: IdColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequests(EventColumns):
    """Viewers who are about to open a page: the `numbers`-th (from 0) of the session that began at `sessions`."""

    viewers: IdColumn
    sessions: Moments
    numbers: IdColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages(PageRequests):
    """Pages as they were shown; a page shorter than `WORLD_PAGE_LENGTH` ends with `NO_VIDEO`."""

    impressions: TextColumn
    videos: PageIds
    propensities: PageNumbers
    policies: TextColumn


@dataclass(frozen=True, slots=True, kw_only=True)
class Watches(EventColumns):
    """Watched videos; `times` is when the viewer stopped."""

    impressions: TextColumn
    viewers: IdColumn
    videos: IdColumn
    positions: IdColumn  # 1 is first
    seconds: NumberColumn
    completions: NumberColumn


def _layout(kind: type[EventColumns]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """The dtype of each field and the shape of one of its rows, from the annotations."""
    annotations = {name: hint.__metadata__ for name, hint in get_type_hints(kind, include_extras=True).items()}
    return {name: (np.dtype(dtype), tuple(shape)) for name, (dtype, *shape) in annotations.items()}


def distinct(times: Micros) -> Micros:
    """Ascending times, each at least a microsecond after the previous one, so that ids built from them are unique."""
    steps = np.arange(len(times))
    return np.maximum.accumulate(np.sort(times) - steps) + steps
