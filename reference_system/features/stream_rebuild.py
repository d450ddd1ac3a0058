"""A state file from the lake: the first start after history, or after the file was lost.

In: the lake. Out: a new state file that stands where the lake's committed offsets stand.
Invariant: the file appears whole or not at all; every state counts as not yet pushed, so the online store follows.

The verdicts of before are found again: a row of the lake is late if its partition had seen something newer by more
than `LATE_AFTER`. Late rows are in the rebuilt windows, because the lake is the truth; refused records are counted
on the dead-letter topics; what remains of the acknowledged records were duplicates.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system import delta_lake
from reference_system.events import EARLIEST, Topic
from reference_system.features.duckdb_snapshot import states
from reference_system.features.stream_state import SCHEMA, connect, fingerprint
from reference_system.features.stream_verdicts import HISTORY, HORIZON_MICROS, LATE_MICROS, Outcome, Place
from reference_system.windows import Micros, View, micros, moment_of

_NEVER = micros(EARLIEST)
# Of each topic, how many records below these offsets are on its dead-letter topic.
CountDeadLetters = Callable[[Mapping[Place, int]], Mapping[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """A topic's lake rows in the order of (partition, offset), history by time; all arrays have shape (n,)."""

    ids: pa.Array
    known: Micros
    partitions: Micros
    offsets: Micros


def is_current(path: Path, views: Sequence[View]) -> bool:
    """Whether there is a state file, and it was made for these declarations.

    Raises:
        sqlite3.DatabaseError: if the file is not a state file.
    """
    if not path.exists():
        return False
    db = connect(path)
    try:
        return bool(db.execute("SELECT value = ? FROM mark WHERE name = 'views'", (fingerprint(views),)).fetchone()[0])
    finally:
        db.close()


def rebuild(  # noqa: PLR0913 - where from, where to and for whom
    path: Path,
    lake: Path,
    topics: Sequence[Topic],
    views: Sequence[View],
    *,
    count_dead_letters: CountDeadLetters,
    report: Callable[[str], None],
) -> None:
    """Build the state file at `path` from the lake, in place of one that is there.

    Args:
        path: where the state file will be.
        lake: the lake's folder; nobody else appends to it meanwhile.
        topics: the consumed topics.
        views: the declarations.
        count_dead_letters: asked for the refused records below the lake's offsets.
        report: told one line about each step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".building")
    _remove(draft)
    db = sqlite3.connect(draft, isolation_level=None)
    # No log beside the draft: it is renamed when it is whole, and a log would stay behind.
    db.execute("PRAGMA journal_mode = MEMORY")
    db.executescript(SCHEMA)
    db.execute("BEGIN")
    db.executemany("INSERT INTO mark VALUES (?, ?)", [("pushed", 0), ("views", fingerprint(views))])
    committed = {
        (t.name, number): last for t in topics for number, last in delta_lake.committed_offsets(lake, t).items()
    }
    refused = count_dead_letters({place: last + 1 for place, last in committed.items()})
    newest = [_add_topic(db, lake, topic, committed, refused.get(topic.name, 0)) for topic in topics]
    report(f"read {len(topics)} topics of the lake")
    for view in views:
        rows = states(view, lake, moment_of(max(newest)), offsets=committed)
        added = db.executemany("INSERT INTO state VALUES (?, ?, ?, 1, ?)", ((view.name, *row) for row in rows))
        report(f"{view.name}: {added.rowcount} states from the lake")
    db.execute("COMMIT")
    db.close()
    _remove(path)
    draft.replace(path)


def _remove(path: Path) -> None:
    """Remove a SQLite file with its side files; the log first, so that it can never meet another database."""
    for suffix in ("-wal", "-shm", ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _add_topic(db: sqlite3.Connection, lake: Path, topic: Topic, committed: Mapping[Place, int], refused: int) -> int:
    """Write the topic's positions, ids and totals; return the newest time it has."""
    rows = _read(lake, topic)
    numbers = [HISTORY, *sorted(number for name, number in committed if name == topic.name)]
    start = _NEVER
    late = 0
    for number in numbers:
        here = rows.partitions == number
        # What a partition had seen with each of its rows; before its first, the history.
        seen = np.maximum.accumulate(np.concatenate([[start], rows.known[here]]))
        if number == HISTORY:
            start = int(seen[-1])
        else:
            late += int((rows.known[here] < seen[:-1] - LATE_MICROS).sum())
        _add_position(db, topic, number, committed.get((topic.name, number), -1) + 1, int(seen[-1]))
        recent = seen[1:] >= seen[-1] - HORIZON_MICROS
        # History may hold an id twice only by mistake; the first is the event.
        db.executemany(
            "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?, ?)",
            _ids(topic, number, rows, np.flatnonzero(here)[recent], seen[1:][recent]),
        )
    live = int((rows.partitions != HISTORY).sum())
    acknowledged = sum(last + 1 for (name, _), last in committed.items() if name == topic.name)
    totals = {
        Outcome.COUNTED: live - late,
        Outcome.LATE: late,
        Outcome.DEAD_LETTERED: refused,
        Outcome.DUPLICATE: acknowledged - live - refused,
    }
    db.executemany("INSERT INTO total VALUES (?, ?, ?)", [(topic.name, *each) for each in totals.items() if each[1]])
    return int(rows.known.max(initial=_NEVER))


def _read(lake: Path, topic: Topic) -> _Rows:
    known = "created_timestamp" if "created_timestamp" in topic.record.__struct_fields__ else "event_timestamp"
    names = [topic.event_id, known, "kafka_partition", "kafka_offset"]
    table = delta_lake.read(lake, topic, columns=names).read_all()
    order = [(name, "ascending") for name in ("kafka_partition", "kafka_offset", known)]
    table = table.take(pc.sort_indices(table, order))
    return _Rows(
        ids=table[topic.event_id].combine_chunks(),
        known=table[known].cast(pa.int64()).to_numpy(),
        partitions=table["kafka_partition"].cast(pa.int64()).to_numpy(),
        offsets=table["kafka_offset"].to_numpy(),
    )


def _add_position(db: sqlite3.Connection, topic: Topic, number: int, next_offset: int, newest: int) -> None:
    known = None if newest == _NEVER else newest
    db.execute("INSERT INTO position VALUES (?, ?, ?, ?)", (topic.name, number, next_offset, known))


def _ids(
    topic: Topic, number: int, rows: _Rows, chosen: Micros, arrived: Micros
) -> Iterator[tuple[str, str, int, int, int]]:
    ids = rows.ids.take(pa.array(chosen)).to_pylist()
    for event_id, offset, time in zip(ids, rows.offsets[chosen].tolist(), arrived.tolist(), strict=True):
        yield topic.name, event_id, number, offset, time
