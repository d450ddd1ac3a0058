"""Task files from the lake: the first start after history, or after a file was lost.

In: the lake. Out: new task files that stand where the lake's committed offsets stand.
Invariant: a file appears whole or not at all, and equals, to the byte of every state, what the stream had at those
offsets; every state counts as not yet pushed, so the online store follows.

The verdicts of before are found again: the lake says which events were late; refused records are counted on the
dead-letter topics; what remains of the acknowledged records were duplicates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.arrays import Micros
from reference_system.clock import wall_seconds
from reference_system.event_time import MICROS_PER_SECOND, micros, moment_of
from reference_system.events import EARLIEST, PartitionKey, Topic
from reference_system.features.history.states import states
from reference_system.features.stream.deduplication import HORIZON_MICROS, Outcome
from reference_system.features.stream.kafka_keys import partition_of
from reference_system.features.stream.snapshot import task_file
from reference_system.features.stream.state_rows import is_keyed_by, topics_of
from reference_system.features.stream.task_file import (
    HISTORY_OFFSET,
    TASK_TABLES,
    fingerprint,
    open_task_file,
)
from reference_system.lake import delta_lake
from reference_system.lake.delta_upkeep import Dropped, dropped
from reference_system.windows import View

_NEVER = micros(EARLIEST)
# Of each topic, how many records below these offsets are on its dead-letter topic.
CountDeadLetters = Callable[[Mapping[PartitionKey, int]], Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """A topic's lake rows in the order of (partition, offset), history by time; all arrays have shape (n,)."""

    ids: pa.Array
    keys: pa.Array
    known: Micros
    partitions: Micros
    offsets: Micros
    late: np.ndarray[tuple[int], np.dtype[np.bool_]]


def is_current(path: Path, views: Sequence[View], tasks: int) -> bool:
    """Whether there is a task file, and it was made for these declarations and this number of tasks.

    Raises:
        sqlite3.DatabaseError: if the file is no task file.
    """
    if not path.exists():
        return False
    with closing(open_task_file(path)) as db:
        expected = fingerprint(views, tasks)
        return bool(db.execute("SELECT value = ? FROM mark WHERE name = 'views'", (expected,)).fetchone()[0])


def rebuild_tasks(  # noqa: PLR0913 - where from, where to and for whom
    folder: Path,
    lake: Path,
    topics: Sequence[Topic],
    views: Sequence[View],
    *,
    build: Collection[int],
    tasks: int,
    count_dead_letters: CountDeadLetters,
    report: Callable[[str], None],
    history_only: bool = False,
) -> None:
    """Build task files from the lake, in place of those that are there.

    Args:
        folder: where the task files are.
        lake: the lake's folder; nobody else appends to it meanwhile.
        topics: the consumed topics.
        views: the declarations.
        build: the tasks whose files are built.
        tasks: how many tasks there are.
        count_dead_letters: asked for the refused records below the lake's offsets.
        report: told one line about each step.
        history_only: only the generated history, as if nothing had been consumed yet.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lakes = () if history_only else topics
    committed = {
        (t.name, number): last for t in lakes for number, last in delta_lake.committed_offsets(lake, t).items()
    }
    # The lost file may have been ahead of the lake and have read in another order: what it pushed must not win over
    # what is pushed from now on. More microseconds than records pass between two rebuilds.
    base = round(wall_seconds() * MICROS_PER_SECOND)
    files = {task: _draft(task_file(folder, task), fingerprint(views, tasks), base) for task in build}
    newest = [_NEVER]
    sequences: dict[int, int] = {}
    for task, db in files.items():
        below = {place: last + 1 for place, last in committed.items() if place[1] == task}
        refused = count_dead_letters(below) if below else {}
        taken = list(_taken(task, committed, views))
        db.executemany("INSERT INTO taken VALUES (?, ?, ?)", taken)
        sequences[task] = base + sum(below.values()) + sum(n for _, _, n in taken)
        _add_totals(db, below, refused)
    for topic in topics:
        rows = _read(lake, topic, history_only=history_only)
        newest.append(int(rows.known.max(initial=_NEVER)))
        for task, db in files.items():
            _add_topic(db, topic, rows, task, tasks, committed.get((topic.name, task), -1) + 1)
            if not history_only:
                _count_dropped(db, topic, dropped(lake, topic), task)
    report(f"read {len(topics)} topics of the lake")
    for view in views:
        added = 0
        for key, time, state in states(view, lake, moment_of(max(newest)), offsets=committed):
            task = partition_of(key, tasks)
            if task in files:
                row = (view.name, key, time, sequences[task], state)
                files[task].execute("INSERT INTO state VALUES (?, ?, ?, ?, ?)", row)
                added += 1
        report(f"{view.name}: {added} states from the lake")
    for task, db in files.items():
        db.execute("COMMIT")
        db.close()
        put_in_place(draft_of(task_file(folder, task)), task_file(folder, task))


def draft_of(path: Path) -> Path:
    """Where a task file is built."""
    return path.with_suffix(".building")


def put_in_place(draft: Path, path: Path) -> None:
    """Replace a task file by a closed draft."""
    remove_sqlite(path)
    draft.replace(path)


def remove_sqlite(path: Path) -> None:
    """Remove a SQLite file with its side files; the log first, so that it can never meet another database."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _draft(path: Path, views: str, base: int) -> sqlite3.Connection:
    draft = draft_of(path)
    remove_sqlite(draft)
    db = sqlite3.connect(draft, isolation_level=None)
    # No log beside the draft: it is renamed when it is whole, and a log would stay behind.
    db.execute("PRAGMA journal_mode = MEMORY")
    db.executescript(TASK_TABLES)
    db.execute("BEGIN")
    marks = [("pushed", -1), ("epoch", 0), ("base", base), ("views", views)]
    db.executemany("INSERT INTO mark VALUES (?, ?)", marks)
    return db


def _taken(task: int, committed: Mapping[PartitionKey, int], views: Sequence[View]) -> Iterator[tuple[int, str, int]]:
    """What other tasks have read, as far as the lake has it, is in the states: their rows count from there on."""
    away = {topic for view in views for topic in topics_of(view) if not is_keyed_by(view, topic)}
    for (topic, source), last in committed.items():
        if topic in away and source != task:
            yield source, topic, last + 1


def _add_totals(db: sqlite3.Connection, below: Mapping[PartitionKey, int], refused: Mapping[str, int]) -> None:
    """Refused records, and as duplicates all others: `_add_topic` turns those that are in the lake into events."""
    for (topic, _), acknowledged in below.items():
        bad = refused.get(topic, 0)
        for outcome, count in ((Outcome.DEAD_LETTERED, bad), (Outcome.DUPLICATE, acknowledged - bad)):
            db.execute("INSERT INTO total VALUES (?, ?, ?)", (topic, outcome, count))


def _add_topic(  # noqa: PLR0913, PLR0917 - the topic, and whose part of it
    db: sqlite3.Connection, topic: Topic, rows: _Rows, task: int, tasks: int, next_offset: int
) -> None:
    """Write the topic's position, ids and totals of one task."""
    history = rows.partitions == delta_lake.NO_OFFSET
    here = rows.partitions == task
    start = int(rows.known[history].max(initial=_NEVER))
    # What the partition had seen with each of its rows; before its first, the history. Late rows change nothing.
    seen = np.maximum.accumulate(np.concatenate([[start], rows.known[here]]))
    newest = int(seen[-1])
    known = None if newest == _NEVER else newest
    db.execute("INSERT INTO position VALUES (?, ?, ?)", (topic.name, next_offset, known))
    insert = partial(db.executemany, "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?)")
    recent = seen[1:] >= newest - HORIZON_MICROS
    places = np.flatnonzero(here)[recent]
    columns = (rows.offsets[places].tolist(), seen[1:][recent].tolist(), rows.late[places].tolist())
    ids = rows.ids.take(pa.array(places)).to_pylist()
    insert([(topic.name, *each) for each in zip(ids, *columns, strict=True)])
    # An id of history may come again, too; it counts as arrived when it happened.
    places = np.flatnonzero(history & (rows.known >= newest - HORIZON_MICROS))
    ids, keys = rows.ids.take(pa.array(places)).to_pylist(), rows.keys.take(pa.array(places)).to_pylist()
    found = zip(ids, keys, rows.known[places].tolist(), strict=True)
    insert(
        [
            (topic.name, identity, HISTORY_OFFSET, time, False)
            for identity, key, time in found
            if partition_of(key, tasks) == task
        ]
    )
    live, late = int(here.sum()), int(rows.late[here].sum())
    _count_events(db, topic, counted=live - late, late=late)


def _count_dropped(db: sqlite3.Connection, topic: Topic, dropped: Dropped, task: int) -> None:
    """Events of days that the lake dropped were counted, too."""
    _count_events(db, topic, counted=dropped.rows.get((task, False), 0), late=dropped.rows.get((task, True), 0))


def _count_events(db: sqlite3.Connection, topic: Topic, *, counted: int, late: int) -> None:
    """Of the records that are taken for duplicates, so many are events."""
    for outcome, count in ((Outcome.COUNTED, counted), (Outcome.LATE, late), (Outcome.DUPLICATE, -counted - late)):
        db.execute(
            "INSERT INTO total VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET events = events + excluded.events",
            (topic.name, outcome, count),
        )
    db.execute("DELETE FROM total WHERE events = 0")


def _read(lake: Path, topic: Topic, *, history_only: bool) -> _Rows:
    known = topic.known_field
    names = list(dict.fromkeys([topic.event_id, topic.key, known, "kafka_partition", "kafka_offset", delta_lake.LATE]))
    table = delta_lake.read(lake, topic, columns=names).read_all()
    if history_only:
        table = table.filter(pc.equal(table["kafka_partition"], delta_lake.NO_OFFSET))
    order = [(name, "ascending") for name in ("kafka_partition", "kafka_offset", known)]
    table = table.take(pc.sort_indices(table, order))
    return _Rows(
        ids=table[topic.event_id].combine_chunks(),
        keys=table[topic.key].combine_chunks(),
        known=table[known].cast(pa.int64()).to_numpy(),
        partitions=table["kafka_partition"].cast(pa.int64()).to_numpy(),
        offsets=table["kafka_offset"].to_numpy(),
        late=table[delta_lake.LATE].to_numpy(),
    )
