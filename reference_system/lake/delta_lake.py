"""The event lake: one Delta table per topic.

In: events (or Arrow columns of generated history). Out: the same rows, by event time.
Invariant: a commit is all or nothing and carries the Kafka offsets that it reaches, so what a crash repeats can be
recognised: `committed_offsets` tells the sink what the lake already holds, and `append` refuses to go back.

A table has the record's fields, `event_day` (its partitions: the UTC day of `event_timestamp`) and where the event
came from, `kafka_partition` and `kafka_offset` (-1 for generated history). `late` marks events that came more than a
day behind their partition: they are facts, but in no window, so `read(..., counted_only=True)` leaves them out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from pyarrow import fs

from reference_system.errors import StateError
from reference_system.events import Event, Topic
from reference_system.file_lock import locked

EVENT_DAY = "event_day"
LATE = "late"
NO_OFFSET = -1
_TIMESTAMP = pa.timestamp("us", tz="UTC")
_PLAIN_TYPES = {
    msgspec.inspect.DateTimeType: _TIMESTAMP,
    msgspec.inspect.BoolType: pa.bool_(),
    msgspec.inspect.IntType: pa.int64(),
    msgspec.inspect.FloatType: pa.float64(),
    msgspec.inspect.StrType: pa.string(),
}
# Offsets are looked up by partition number: the bound of `Settings.kafka_partitions`.
MAX_PARTITIONS = 64
# Readers finish within minutes: what compaction replaced stays so long for them (real time, not event time).
RETENTION = timedelta(minutes=10)
_INTERVAL = f"interval {RETENTION // timedelta(minutes=1)} minutes"
CONFIGURATION = {
    "delta.deletedFileRetentionDuration": _INTERVAL,
    "delta.logRetentionDuration": _INTERVAL,
    # Opening a table replays its log since the last checkpoint: at the default of 100 a commit costs three times more.
    "delta.checkpointInterval": "20",
}


def _arrow_type(kind: msgspec.inspect.Type) -> pa.DataType:
    """The column type of a field's type; an optional field has the type of its value."""
    match kind:
        case msgspec.inspect.LiteralType(values=values):
            return pa.int64() if isinstance(values[0], int) else pa.string()
        case msgspec.inspect.ListType(item_type=item):
            return pa.list_(_arrow_type(item))
        case msgspec.inspect.UnionType(types=(value, msgspec.inspect.NoneType())):
            return _arrow_type(value)
    return _PLAIN_TYPES[type(kind)]


@cache
def arrow_schema(topic: Topic) -> pa.Schema:
    """The lake's columns for a topic, derived from the declaration of its record."""
    record = msgspec.inspect.type_info(topic.record)
    if not isinstance(record, msgspec.inspect.StructType):
        raise TypeError(f"{topic.name}: a record is a msgspec Struct, not {record}")
    return pa.schema(
        [
            *(pa.field(field.name, _arrow_type(field.type)) for field in record.fields),
            pa.field(EVENT_DAY, pa.string()),
            pa.field("kafka_partition", pa.int32()),
            pa.field("kafka_offset", pa.int64()),
            pa.field(LATE, pa.bool_()),
        ]
    )


def to_table(
    topic: Topic,
    events: Sequence[Event],
    partitions: Sequence[int],
    offsets: Sequence[int],
    late: Sequence[bool] | None = None,
) -> pa.Table:
    """The lake's rows for consumed events; the sequences have one element for each event (`late`: by default none)."""
    schema = arrow_schema(topic)
    columns = {
        name: pa.array([getattr(event, name) for event in events], schema.field(name).type)
        for name in topic.record.__struct_fields__
    }
    origin = np.asarray(partitions, np.int32), np.asarray(offsets, np.int64)
    return _with_origin(topic, columns, *origin, np.zeros(len(events), np.bool_) if late is None else late)


def history_table(topic: Topic, columns: Mapping[str, object]) -> pa.Table:
    """The lake's rows for generated history, without an object per event.

    Args:
        topic: whose record the columns belong to.
        columns: one array (Arrow, numpy or list) for each field of the record; times as microseconds since the
            epoch (int64), datetime64[us] or aware datetimes.
    """
    schema = arrow_schema(topic)
    arrays = {}
    for name in topic.record.__struct_fields__:
        values = columns[name]
        kind = schema.field(name).type
        arrays[name] = values.cast(kind) if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, kind)
    count = len(arrays["event_timestamp"])
    origin = np.full(count, NO_OFFSET, np.int32), np.full(count, NO_OFFSET, np.int64)
    return _with_origin(topic, arrays, *origin, np.zeros(count, np.bool_))


def _with_origin(
    topic: Topic, columns: dict[str, object], partitions: object, offsets: object, late: object
) -> pa.Table:
    origin = {
        # Through date32: strftime on timestamps is several times slower.
        EVENT_DAY: pc.cast(pc.cast(columns["event_timestamp"], pa.date32()), pa.string()),
        "kafka_partition": partitions,
        "kafka_offset": offsets,
        LATE: late,
    }
    return pa.table({**columns, **origin}, schema=arrow_schema(topic))


def append(lake: Path, topic: Topic, table: pa.Table, *, versions: Mapping[int, int]) -> None:
    """Add rows in one atomic commit.

    Args:
        lake: the lake's folder.
        topic: whose table it is.
        table: rows in the shape of `arrow_schema`.
        versions: for each Kafka partition in this commit the last offset that it covers (empty for history).

    Raises:
        StateError: if the lake has a version or a row of it already: Delta itself would accept it a second time.
    """
    with written(lake, topic):
        _append(_open_or_create(lake, topic), topic, table, versions)


def _append(delta: DeltaTable, topic: Topic, table: pa.Table, versions: Mapping[int, int]) -> None:
    partitions, offsets = table["kafka_partition"].to_numpy(), table["kafka_offset"].to_numpy()
    for partition, offset in versions.items():
        before = delta.transaction_version(_writer(topic, partition))
        if before is not None and min([offset, *offsets[partitions == partition].tolist()]) <= before:
            raise StateError(
                f"the lake holds {topic.name}-{partition} up to {before}: a commit up to {offset} would repeat rows"
            )
    transactions = [Transaction(_writer(topic, partition), offset) for partition, offset in versions.items()]
    write_deltalake(
        delta, table, mode="append", commit_properties=CommitProperties(app_transactions=transactions or None)
    )


def committed_offsets(lake: Path, topic: Topic) -> dict[int, int]:
    """The last committed offset of each Kafka partition that has one."""
    if not exists(lake, topic):
        return {}
    delta = DeltaTable(table_path(lake, topic))
    found = {number: delta.transaction_version(_writer(topic, number)) for number in range(MAX_PARTITIONS)}
    return {number: version for number, version in found.items() if version is not None}


def read(  # noqa: PLR0913 - what to read of it
    lake: Path,
    topic: Topic,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    columns: Sequence[str] | None = None,
    counted_only: bool = False,
    streamed: bool | None = None,
) -> pa.RecordBatchReader:
    """The rows with `event_timestamp` in [start, end), in no particular order; only the days asked for are opened.

    `counted_only` leaves out the late ones: what windows, lists and profiles are made of. `streamed` asks for the rows
    that came through Kafka, or for the generated history; files without such rows are not opened.

    A table that does not exist yet reads as an empty one. The reader can be consumed once (DuckDB, pyarrow).
    """
    names = list(columns) if columns is not None else arrow_schema(topic).names
    schema = pa.schema([arrow_schema(topic).field(name) for name in names])
    if not exists(lake, topic):
        return pa.RecordBatchReader.from_batches(schema, [])
    # Arrow's own file system: through delta-rs's, which is Python, Arrow's threads wait for the interpreter lock while
    # the reader that waits for them may hold it.
    files = fs.SubTreeFileSystem(str(table_path(lake, topic)), fs.LocalFileSystem())
    day, moment = ds.field(EVENT_DAY), ds.field("event_timestamp")
    wanted = ds.scalar(True)
    # The days once more for Delta: a dataset of every file of a long lake takes ten times as long to make.
    days: list[tuple[str, str, str]] = []
    if start is not None:
        wanted &= (day >= _day(start)) & (moment >= pa.scalar(start, _TIMESTAMP))
        days.append((EVENT_DAY, ">=", _day(start)))
    if end is not None:
        wanted &= (day <= _day(end)) & (moment < pa.scalar(end, _TIMESTAMP))
        days.append((EVENT_DAY, "<=", _day(end)))
    dataset = DeltaTable(table_path(lake, topic)).to_pyarrow_dataset(
        schema=arrow_schema(topic), filesystem=files, file_pruning_predicate=days or None
    )
    if counted_only:
        wanted &= ~ds.field(LATE)
    if streamed is not None:
        partition = ds.field("kafka_partition")
        wanted &= partition >= 0 if streamed else partition < 0
    return dataset.scanner(columns=names, filter=wanted).to_reader()


@contextlib.contextmanager
def written(lake: Path, topic: Topic) -> Iterator[None]:
    """While it lasts, the table's upkeep deletes nothing; any number of writers at once.

    A file that no commit names yet looks like one that a killed writer left, and its writer may be stopped for longer
    than any retention before it commits.
    """
    with locked(_lock(lake, topic), shared=True):
        yield


@contextlib.contextmanager
def kept_up(lake: Path, topic: Topic) -> Iterator[DeltaTable]:
    """The table, while nobody writes to it.

    Raises:
        BlockingIOError: if a writer is at work.
    """
    with locked(_lock(lake, topic), wait=False):
        yield DeltaTable(table_path(lake, topic))


def _lock(lake: Path, topic: Topic) -> Path:
    return table_path(lake, topic) / ".writers.lock"


def _open_or_create(lake: Path, topic: Topic) -> DeltaTable:
    path = table_path(lake, topic)
    if not exists(lake, topic):
        DeltaTable.create(
            path,
            arrow_schema(topic),
            mode="ignore",
            partition_by=EVENT_DAY,
            name=topic.name,
            configuration=CONFIGURATION,
        )
    return DeltaTable(path)


def exists(lake: Path, topic: Topic) -> bool:
    """Whether there is a table yet."""
    return bool(DeltaTable.is_deltatable(str(table_path(lake, topic))))


def table_path(lake: Path, topic: Topic) -> Path:
    """The folder of a topic's table."""
    return lake / topic.name


def _writer(topic: Topic, partition: int) -> str:
    return f"{topic.name}-{partition}"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"
