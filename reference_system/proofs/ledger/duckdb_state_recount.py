"""Recounts entity states from raw records and the lake's history.

In: the tables of `duckdb_recount.py` of all topics, and the offsets that each task has read and taken. Out: for each
task and view the expected states, in the order of their keys.
Invariant: no state is updated incrementally. It is computed at once from all its rows: those of the task's own
partitions up to its position, and those of other tasks' partitions up to the offset that it has taken.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.event_time import MICROS_PER_DAY
from reference_system.events import Topic
from reference_system.features.stream.kafka_keys import partition_of
from reference_system.features.stream.snapshot import TaskSnapshot
from reference_system.lake import delta_lake
from reference_system.proofs.ledger.duckdb_recount import Duck
from reference_system.proofs.ledger.states import ExpectedState
from reference_system.reported_rows import Once
from reference_system.use_cases import topic_named
from reference_system.windows import EVERYONE, SNAP, Is, LatestFields, RecentItems, Rows, Value, View, WindowedView

# The partition and offset of rows from history.
_HISTORY = delta_lake.NO_OFFSET
_pack = msgspec.msgpack.Encoder().encode


def needed_fields(views: Sequence[View], topic: Topic) -> set[str]:
    """The fields of a topic's events that the views use."""
    needed: set[str] = set()
    for view in views:
        if isinstance(view, WindowedView):
            of_topic = [rows for rows in view.rows if topic.name in rows.topics]
            needed |= {rows.entity for rows in of_topic}
            needed |= {name for rows in of_topic if rows.once for name in (rows.once.per, _report(rows))}
            needed |= {name for rows in of_topic for _, value in rows.values if (name := _field(value)) is not None}
        elif view.topic == topic.name:
            needed |= set(view.fields) if isinstance(view, LatestFields) else {view.item}
            needed |= {view.entity} if view.entity is not None else set()
    return needed


def _report(rows: Rows) -> str:
    return topic_named(rows.topic).event_id


def _field(value: Value) -> str | None:
    if isinstance(value, Is):
        return value.field
    return value if isinstance(value, str) else None


def load_facts(duck: Duck, views: Sequence[View], topics: Sequence[Topic]) -> None:
    """Create `facts_…` of each topic: rows that count in windows, from history, removed records and raw records."""
    for topic in topics:
        name = topic.name
        known = topic.known_field
        fields = ", ".join(f'"{each}"' for each in sorted({*needed_fields(views, topic), "event_timestamp", known}))
        duck.execute(f"""
            CREATE TEMP VIEW "facts_{name}" AS
            SELECT {_HISTORY} AS part, {_HISTORY} AS "off", "{known}" AS known, {fields} FROM "history_{name}"
            UNION ALL
            SELECT part, "off", "{known}" AS known, {fields} FROM "lake_{name}" l
            WHERE NOT l.late AND "off" < (SELECT min(read_from) FROM "span_{name}" s WHERE s.part = l.part)
            UNION ALL
            SELECT part, "off", "{known}" AS known, {fields} FROM "raw_{name}"
            JOIN "verdict_{name}" v USING (part, "off") WHERE v.verdict = 'counted'
        """)


def load_limits(duck: Duck, tasks: Sequence[TaskSnapshot]) -> None:
    """Create `reached`: the offset up to which a task's states have the rows of a partition."""
    rows = [(topic, task.task, task.task, offset) for task in tasks for topic, offset in task.positions.items()] + [
        (topic, source, task.task, offset) for task in tasks for (source, topic), offset in task.taken.items()
    ]
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    kinds = (pa.string(), pa.int32(), pa.int32(), pa.int64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    duck.register("limits", pa.table(arrays, names=["topic", "part", "task", "until"]))
    duck.execute("CREATE TEMP TABLE reached AS FROM limits")
    duck.unregister("limits")


def expected_states(duck: Duck, view: View, tasks: int) -> Iterator[tuple[int, list[ExpectedState]]]:
    """The expected states of a view for each task, ordered by key."""
    _load_owners(duck, view, tasks)
    match view:
        case WindowedView():
            _load_rows(duck, view)
            for task in range(tasks):
                yield task, list(_tails(duck, view, task))
        case RecentItems():
            yield from _by_task(_recent_items(duck, view), tasks)
        case LatestFields():
            yield from _by_task(_profiles(duck, view), tasks)


def _by_task(states: Sequence[tuple[int, ExpectedState]], tasks: int) -> Iterator[tuple[int, list[ExpectedState]]]:
    for task in range(tasks):
        yield task, [state for owner, state in states if owner == task]


def _load_owners(duck: Duck, view: View, tasks: int) -> None:
    """Create `owner`: the task of every entity of the view."""
    keys = " UNION ".join(f'SELECT {entity} AS entity FROM "facts_{topic}"' for topic, entity in _entities(view))
    found = duck.sql(f"SELECT DISTINCT entity FROM ({keys})").to_arrow_table()["entity"].to_pylist()
    owners = pa.array([partition_of(key, tasks) for key in found], pa.int32())
    duck.register("owners", pa.table([pa.array(found, pa.string()), owners], names=["entity", "task"]))
    duck.execute("CREATE OR REPLACE TEMP TABLE owner AS FROM owners")
    duck.unregister("owners")


def _entities(view: View) -> list[tuple[str, str]]:
    """Each topic of the view with SQL for the entity's key."""
    if isinstance(view, WindowedView):
        return [(topic, _entity(rows)) for rows in view.rows for topic in rows.topics]
    return [(view.topic, f"'{EVERYONE}'" if view.entity is None else f'"{view.entity}"')]


def _entity(rows: Rows) -> str:
    return f'unnest("{rows.entity}")' if rows.explode else f'"{rows.entity}"'


def _owned(topic: str, entity: str, columns: str) -> str:
    """SQL for the rows of a topic's facts that are in a state: `(task, entity, *columns, part, off)`.

    Rows keyed like the topic belong to the partition's task, all others and all history to the entity's owner.
    """
    keyed = entity == f'"{topic_named(topic).key}"'
    task = f"CASE WHEN part = {_HISTORY} THEN owner.task ELSE part END" if keyed else "owner.task"
    return f"""
        SELECT f.* FROM (
            SELECT {task} AS task, facts.* FROM (
                SELECT {entity} AS entity, {columns}, part, "off" FROM "facts_{topic}"
            ) facts JOIN owner USING (entity)
        ) f LEFT JOIN reached r ON r.topic = '{topic}' AND r.part = f.part AND r.task = f.task
        WHERE f.part = {_HISTORY} OR f."off" < r.until
    """


def _load_rows(duck: Duck, view: WindowedView) -> None:
    """Create `rows`: every row of the view that its states still have, one for each tile, event or fact.

    For a view with rows that count once, `told` has the reports and reversals of their facts.
    """
    parts = []
    for rows in view.rows:
        if rows.once is not None:
            _load_told(duck, rows, rows.once)
            parts.append(_rows_of_facts(view, rows))
        else:
            parts.append(_rows_of_events(view, rows))
    everything = " UNION ALL ".join(parts)
    if view.tile_micros:
        sums = ", ".join(f'sum("{name}") AS "{name}"' for name in view.columns)
        everything = f"SELECT task, entity, t, max(known) AS known, {sums} FROM ({everything}) GROUP BY ALL"
    values = ", ".join(f'"{name}"' for name in view.columns)
    # A state keeps the horizon and one day before its newest row; the event known last may have an older row.
    oldest = f"max(t) OVER (PARTITION BY task, entity) - {view.horizon_micros + MICROS_PER_DAY}"
    duck.execute(f"""
        CREATE OR REPLACE TEMP TABLE rows AS
        SELECT task, entity, t, max(known) OVER (PARTITION BY task, entity) AS known, {values}
        FROM ({everything}) QUALIFY t > {oldest}
    """)


def _rows_of_events(view: WindowedView, rows: Rows) -> str:
    tile, values = view.tile_micros, dict(rows.values)
    at = f"(event_timestamp + {tile - 1}) // {tile} * {tile}" if tile else "event_timestamp"
    columns = ", ".join(f'{_value(values.get(name, 0.0), snap=bool(tile))} AS "{name}"' for name in view.columns)
    owned = _owned(rows.topic, _entity(rows), f"{at} AS t, known, event_timestamp AS happened, {columns}")
    kept = ", ".join(f'"{name}"' for name in view.columns)
    return f"SELECT task, entity, t, known, {kept} FROM ({owned}) WHERE {_known_in_time(rows)}"


def _load_told(duck: Duck, rows: Rows, once: Once) -> None:
    """Create `told`: each report in time, and each reversal."""
    fields = f'known, event_timestamp AS happened, "{once.per}" AS fact, "{_report(rows)}" AS report'
    reports = _owned(rows.topic, _entity(rows), f"{fields}, false AS taken_back")
    taken = _owned(once.taken_back_by, _entity(rows), f"{fields}, true AS taken_back")
    duck.execute(f"""
        CREATE OR REPLACE TEMP TABLE told AS
        SELECT task, entity, happened AS t, fact, report, taken_back, known FROM ({reports})
        WHERE {_known_in_time(rows)} UNION ALL
        SELECT task, entity, happened AS t, fact, report, taken_back, known FROM ({taken})
    """)


def _rows_of_facts(view: WindowedView, rows: Rows) -> str:
    """A row for each fact with a report or reversal: zeros where every report was reversed."""
    values = dict(rows.values)
    same = "entity, t, fact, report"
    stands = f"bool_or(NOT taken_back AND ({same}) NOT IN (SELECT ({same}) FROM told WHERE taken_back))"
    columns = ", ".join(
        f'CASE WHEN {stands} THEN {_value(values.get(name, 0.0), snap=False)} ELSE 0.0::DOUBLE END AS "{name}"'
        for name in view.columns
    )
    return f"SELECT task, entity, t, max(known) AS known, {columns} FROM told GROUP BY task, entity, t, fact"


def _known_in_time(rows: Rows) -> str:
    if rows.known_within_days is None:
        return "true"
    return f"known - happened <= {round(rows.known_within_days * MICROS_PER_DAY)}"


def _value(value: Value, *, snap: bool) -> str:
    """A row value; those of tiles are multiples of 1/SNAP, so that their sum does not depend on the order."""
    if isinstance(value, Is):
        return f"(\"{value.field}\" = '{value.value}')::DOUBLE"
    if isinstance(value, str):
        return f'floor("{value}"::DOUBLE * {SNAP} + 0.5) / {SNAP}' if snap else f'"{value}"::DOUBLE + 0.0'
    return f"{value!r}::DOUBLE"


def _tails(duck: Duck, view: WindowedView, task: int) -> Iterator[ExpectedState]:
    """A task's states of a windowed view: times, then each column, little-endian."""
    names = ", ".join(f'"{name}"' for name in view.columns)
    table = duck.sql(f"SELECT * FROM rows WHERE task = {task} ORDER BY entity, t, {names}").to_arrow_table()
    if not table.num_rows:
        return
    arrays = [table["t"].to_numpy().astype("<i8"), *(table[name].to_numpy().astype("<f8") for name in view.columns)]
    known = table["known"].to_numpy()
    memories = _memories(duck, task) if view.once is not None else {}
    runs = pc.run_end_encode(table["entity"].combine_chunks())
    start = 0
    for key, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        rows = b"".join(array[start:end].tobytes() for array in arrays)
        yield key, int(known[start]), memories.get(key, b"") + rows
        start = end


def _memories(duck: Duck, task: int) -> dict[str, bytes]:
    """The reports of the facts whose rows a state has: their length and the oldest time, then the reports."""
    found = duck.sql(f"""
        SELECT entity, min(t), list(DISTINCT (t, fact, report, taken_back))
        FROM told SEMI JOIN rows USING (task, entity, t) WHERE task = {task} GROUP BY entity
    """).fetchall()
    packed = [(entity, oldest, _pack(sorted(reports))) for entity, oldest, reports in found]
    return {entity: struct.pack("<qq", -16 - len(told), oldest) + told for entity, oldest, told in packed}


def _recent_items(duck: Duck, view: RecentItems) -> list[tuple[int, ExpectedState]]:
    ((topic, entity),) = _entities(view)
    owned = _owned(topic, entity, f'event_timestamp AS happened, known, "{view.item}" AS item')
    rows = duck.sql(f"""
        SELECT task, entity, max(known), list((happened, item) ORDER BY happened DESC, item)[:{view.length}] FROM (
            SELECT task, entity, item, max(happened) AS happened, max(known) AS known FROM ({owned}) GROUP BY ALL
        ) GROUP BY ALL ORDER BY task, entity
    """).fetchall()
    return [(task, (key, known, _pack(items))) for task, key, known, items in rows]


def _profiles(duck: Duck, view: LatestFields) -> list[tuple[int, ExpectedState]]:
    ((topic, entity),) = _entities(view)
    fields = ", ".join(f'"{name}" AS "value_{name}"' for name in view.fields)
    owned = _owned(topic, entity, f"event_timestamp AS happened, known, {fields}")
    values = ", ".join(f'"value_{name}"' for name in view.fields)
    rows = duck.sql(f"""
        SELECT task, entity, max(known) OVER (PARTITION BY task, entity), {values} FROM ({owned})
        QUALIFY row_number() OVER (PARTITION BY task, entity ORDER BY happened DESC, part DESC, "off" DESC) = 1
        ORDER BY task, entity
    """).fetchall()
    return [
        (task, (key, known, _pack(dict(zip(view.fields, found, strict=True))))) for task, key, known, *found in rows
    ]
