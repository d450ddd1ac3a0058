"""Valid rows: what of a chunk is what it claims to be.

In: a chunk of a file. Out: the rows whose every event the live system would accept; the others in the log.
Invariant: the judge is the decoder of live events, given the bytes that a producer would send, so no row enters a
dataset that would have been refused on its topic.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import pyarrow as pa

from reference_system.arrays import Flags
from reference_system.dataset_import.bad_rows import BadRowLog, shown
from reference_system.dataset_import.columns.ids import TypedIds
from reference_system.dataset_import.columns.numbers import REFUND
from reference_system.dataset_import.columns.readings import ColumnReading
from reference_system.dataset_import.file_shapes import FIELD_OF, ROW, FileShape
from reference_system.dataset_import.files.chunks import Chunk
from reference_system.dataset_import.files.source_files import SourceFile
from reference_system.errors import EventRejected
from reference_system.event_time import micros
from reference_system.events import FUTURE_TOLERANCE, Topic, decoder

# What a refusal adds to say where: `$.amount`.
_PLACE = re.compile(r" - at `\$\.(\w+)`$")
# A refusal of an id begins with the id; the same reason must be the same words.
_VALUE = re.compile(r"^(['\"]).*\1 (?=is no id)", re.DOTALL)


class RowJudge:
    """Turns the chunks of one file into valid rows."""

    def __init__(  # noqa: PLR0913 - what a verdict depends on
        self,
        shape: FileShape,
        source: SourceFile,
        columns: dict[str, str],
        reading: ColumnReading,
        *,
        label_delay: timedelta,
        now: datetime,
    ) -> None:
        """Choose the converters.

        Args:
            shape: the use case's file.
            source: the file.
            columns: field → column, of the fields that have one.
            reading: what the reader says about them.
            label_delay: between an event and its label.
            now: what lies later is refused.

        Raises:
            ImportRefused: if a column's type can hold no such value.
        """
        self._shape, self._source, self._columns, self._reading = shape, source, columns, reading
        self._delay = label_delay
        # A label follows from its row: that it will be known later than now is no fault of the file.
        self._latest = now + FUTURE_TOLERANCE + label_delay
        latest = micros(now + FUTURE_TOLERANCE)
        self._converters = {
            field: reading.converter(
                shape.fields[field],
                field if column == field else f"{field} ({column})",
                source.types.get(column),
                latest=latest,
            )
            for field, column in columns.items()
        }
        self._given = [field for field in shape.fields if field not in columns]
        self.refunds = 0

    @property
    def id_types(self) -> dict[str, str]:
        """The types that the file's ids had; rows are numbered by whole numbers."""
        return {
            field: converter.type_name if isinstance(converter, TypedIds) else "int64"
            for field in self._shape.fields
            if isinstance(converter := self._converters.get(field), TypedIds) or field == self._shape.event_id
        }

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns to read."""
        return tuple(self._columns.values())

    @property
    def looked_at(self) -> tuple[str, ...]:
        """The columns that must be seen whole before the first row is judged."""
        return tuple(self._columns[field] for field, converter in self._converters.items() if converter.needs_look)

    def look(self, chunk: Chunk) -> None:
        """See some rows of those columns."""
        for field, converter in self._converters.items():
            if converter.needs_look:
                converter.look(chunk.columns[self._columns[field]])

    def notes(self) -> list[str]:
        """What had to be assumed."""
        return [note for converter in self._converters.values() for note in converter.notes()]

    def judge(self, chunk: Chunk, log: BadRowLog) -> pa.Table:
        """The valid rows: `source_row`, the fields, the event id."""
        lines = {row: line for row, _, line in chunk.broken}
        for row, reason, _ in chunk.broken:
            log.add(reason, [row], lambda row: f"{self._source.named(row)}: {shown(lines[row])}")
        values, found = {}, []
        for field, converter in self._converters.items():
            values[field], faults = converter.convert(chunk.columns[self._columns[field]])
            found += [(field, reason, mask) for reason, mask in faults.items()]
        bad = np.zeros(len(chunk.numbers), np.bool_)
        # What is left out need not be valid.
        for _, _, mask in (one for one in found if one[1] == REFUND):
            self.refunds += int(mask.sum())
            bad |= mask
        for field, reason, mask in (one for one in found if one[1] != REFUND):
            self._log(log, f"{field} {reason}", field, chunk, np.flatnonzero(mask & ~bad).tolist())
            bad |= mask
        given = {field: self._reading.values(field, chunk) for field in self._given}
        columns = {field: (values | given)[field] for field in self._shape.fields}
        rows = self._shape.identified(pa.table({ROW: chunk.numbers, **columns}).filter(pa.array(~bad)))
        refused = self._refused(rows, chunk, log)
        return rows.filter(pa.array(~refused)) if refused.any() else rows

    def _refused(self, rows: pa.Table, chunk: Chunk, log: BadRowLog) -> Flags:
        refused = np.zeros(len(rows), np.bool_)
        numbers = rows[ROW].to_numpy()
        for topic, events in self._shape.events(rows, self._delay).items():
            of_row = np.searchsorted(numbers, events[ROW].to_numpy())
            for place, field, reason in refusals(topic, events.drop_columns([ROW]), latest=self._latest):
                position = int(of_row[place])
                if not refused[position]:
                    refused[position] = True
                    named = FIELD_OF.get(field, field)
                    where = int(np.searchsorted(chunk.numbers, numbers[position]))
                    self._log(log, f"{named}: {reason}", named, chunk, [where])
        return refused

    def _log(self, log: BadRowLog, reason: str, field: str, chunk: Chunk, positions: Sequence[int]) -> None:
        column = self._columns.get(field)

        def describe(position: int) -> str:
            row = self._source.named(int(chunk.numbers[position]))
            return row if column is None else f"{row}: {shown(chunk.columns[column][position].as_py())}"

        log.add(reason, positions, describe)


def refusals(topic: Topic, events: pa.Table, *, latest: datetime) -> list[tuple[int, str, str]]:
    """The events whose bytes would be refused on their topic: (position, field, reason)."""
    encode, decode = msgspec.json.Encoder().encode, decoder(topic)
    names = events.column_names
    found = []
    rows = zip(*(_objects(events[name]) for name in names), strict=True)
    for position, row in enumerate(rows):
        try:
            decode(encode(dict(zip(names, row, strict=True))), latest)
        except EventRejected as error:
            reason = str(error).removeprefix(f"{topic.name}: ")
            place = _PLACE.search(reason)
            found.append((position, place[1] if place else topic.event_id, _VALUE.sub("", _PLACE.sub("", reason))))
    return found


def _objects(column: pa.ChunkedArray) -> list[object]:
    """Python objects, times as aware datetimes (several times faster than Arrow's own)."""
    if pa.types.is_timestamp(column.type):
        naive = column.to_numpy().astype("datetime64[us]").tolist()
        return [moment.replace(tzinfo=UTC) for moment in naive]
    found: list[object] = column.to_pylist()
    return found
