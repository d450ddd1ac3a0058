"""Recounts a topic from its raw records in SQL, without ingestion code.

In: the raw records and dead letters of a topic (Arrow), the lake, and the offset ranges. Out: tables in DuckDB:
`raw_…` (each record, parsed), `verdict_…` (its expected class), `lake_…` and `history_…` (the lake's rows).
Invariant: nothing here decodes, classifies or aggregates with the code that it checks. Only records that were not
refused are parsed; an event is the first of its id within the deduplication horizon of its partition, and late if it
was known more than the lateness bound before the newest of its partition.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from reference_system.errors import StateError
from reference_system.events import Topic
from reference_system.features.stream.deduplication import HORIZON_MICROS, LATE_MICROS
from reference_system.features.stream.kafka_keys import partition_of
from reference_system.lake import delta_lake
from reference_system.lake.delta_upkeep import Dropped

# Records parsed by one statement, which itself costs as much as thousands of records.
_BATCH_ROWS, _BATCH_BYTES = 40_000, 32 * 1024 * 1024
# Classes depend on one another only through repeated ids; each round settles at least one more of those.
_MAX_ROUNDS = 100
Duck = duckdb.DuckDBPyConnection
_ORIGIN = frozenset((delta_lake.EVENT_DAY, "kafka_partition", "kafka_offset", delta_lake.LATE))


class PartitionSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One partition: the offsets that the broker holds, and how far it was read."""

    part: int
    read_from: int  # the first record that the broker still has
    read_to: int  # the next offset of the task that owns the partition
    taken_to: int  # the same, or higher if another task has taken later rows
    log_end: int  # the offset that the next record will have


def fields_of(topic: Topic) -> dict[str, pa.DataType]:
    """The fields of a topic's events as the lake has them."""
    return {field.name: field.type for field in delta_lake.arrow_schema(topic) if field.name not in _ORIGIN}


def load_dead_letters(duck: Duck, topic: Topic, batches: Iterable[pa.RecordBatch]) -> None:
    """Create `dead_…`: each origin once, and whether all its copies are equal."""
    duck.execute('CREATE TEMP TABLE copies (part INTEGER, "off" BIGINT, key BLOB, value BLOB)')
    for table in _gathered(batches):
        duck.register("batch", table)
        duck.execute("INSERT INTO copies SELECT * FROM batch")
    duck.execute(
        f'CREATE TEMP TABLE "dead_{topic.name}" AS SELECT part, "off", first(key) AS key, first(value) AS value,'
        " count(DISTINCT (key, value)) <= 1 AS alike FROM copies GROUP BY ALL"
    )
    duck.execute("DROP TABLE copies")


def load_records(duck: Duck, topic: Topic, batches: Iterable[pa.RecordBatch]) -> Iterator[int]:
    """Create `raw_…`; yields the number of records so far after each part.

    `dead`: the record is on the dead-letter topic; `same`: it is there with its own key and bytes.
    """
    fields = fields_of(topic)
    shape = json.dumps({name: _json_type(kind) for name, kind in fields.items()})
    declared = ", ".join(f'"{name}" {_sql_type(kind)}' for name, kind in fields.items())
    duck.execute(
        f'CREATE TEMP TABLE "raw_{topic.name}" (part INTEGER, "off" BIGINT, dead BOOLEAN, same BOOLEAN, {declared})'
    )
    values = ", ".join(
        _micros_of_text(f's."{name}"') if pa.types.is_timestamp(kind) else f's."{name}"'
        for name, kind in fields.items()
    )
    # A tombstone without a key is on the dead-letter topic with an empty key: the client requires one.
    same = "alike AND value IS NOT DISTINCT FROM dvalue AND coalesce(key, ''::BLOB) = coalesce(dkey, ''::BLOB)"
    count = 0
    for table in _gathered(batches):
        duck.register("batch", table)
        duck.execute(f"""
            INSERT INTO "raw_{topic.name}"
            WITH joined AS (
                SELECT b.*, d."off" IS NOT NULL AS dead, d.key AS dkey, d.value AS dvalue, d.alike
                FROM batch b LEFT JOIN "dead_{topic.name}" d USING (part, "off")
            ), parsed AS (
                SELECT *, CASE WHEN NOT dead THEN TRY(json_transform(TRY(decode(value)), '{shape}')) END AS s
                FROM joined
            )
            SELECT part, "off", dead, dead AND {same}, {values} FROM parsed
        """)
        count += table.num_rows
        yield count


def load_lake(duck: Duck, lake: Path, topic: Topic, needed: Iterable[str]) -> None:
    """Create `lake_…` (rows from Kafka, all fields) and `history_…` (generated rows, the needed fields)."""
    fields = fields_of(topic)
    names = sorted({*needed, topic.event_id, topic.key, "event_timestamp", topic.known_field})
    origin = ["kafka_partition", "kafka_offset", delta_lake.LATE]
    duck.register("source", delta_lake.read(lake, topic, columns=names, counted_only=True, streamed=False))
    chosen = ", ".join(_in_micros(name, fields[name]) for name in names)
    duck.execute(f'CREATE TEMP TABLE "history_{topic.name}" AS SELECT {chosen} FROM source')
    duck.register("source", delta_lake.read(lake, topic, columns=[*fields, *origin], streamed=True))
    chosen = ", ".join(_in_micros(name, kind) for name, kind in fields.items())
    duck.execute(
        f'CREATE TEMP TABLE "lake_{topic.name}" AS SELECT kafka_partition AS part, kafka_offset AS "off", late,'
        f" {chosen} FROM source"
    )
    duck.unregister("source")


def load_dropped(duck: Duck, topic: Topic, dropped: Dropped) -> None:
    """Create `dropped_…`: the number of rows that the lake has dropped, by partition and lateness."""
    columns = list(zip(*((part, late, rows) for (part, late), rows in dropped.rows.items()), strict=True)) or [
        (),
        (),
        (),
    ]
    kinds = (pa.int32(), pa.bool_(), pa.int64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    duck.register("counts", pa.table(arrays, names=["part", "late", "rows"]))
    duck.execute(f'CREATE TEMP TABLE "dropped_{topic.name}" AS FROM counts')
    duck.unregister("counts")


def classify_records(duck: Duck, topic: Topic, spans: Sequence[PartitionSpan]) -> None:
    """Create `verdict_…`: counted, late or duplicate for each record that was not refused and is readable.

    Raises:
        StateError: if the classes of repeated ids do not settle within `_MAX_ROUNDS`, more than any traffic needs.
    """
    _load_spans(duck, topic, spans)
    _load_priors(duck, topic, len(spans))
    duck.execute(f"""
        CREATE OR REPLACE TEMP TABLE valid AS
        SELECT part, "off", "{topic.event_id}" AS id, "{topic.known_field}" AS known FROM "raw_{topic.name}"
        WHERE NOT dead AND id IS NOT NULL AND known IS NOT NULL AND event_timestamp IS NOT NULL
    """)
    duck.execute("""
        CREATE OR REPLACE TEMP TABLE accepted AS
        SELECT part, "off" FROM valid QUALIFY row_number() OVER (PARTITION BY part, id ORDER BY "off") = 1
    """)
    for _ in range(_MAX_ROUNDS):
        duck.execute(_NEWEST_BEFORE)
        duck.execute(_ACCEPTED_NEXT)
        (differences,) = duck.sql("""
            SELECT count(*) FROM (SELECT * FROM accepted FULL JOIN following USING (part, "off")
            WHERE accepted."off" IS NULL OR following."off" IS NULL)
        """).fetchall()[0]
        if not differences:
            break
        duck.execute("CREATE OR REPLACE TEMP TABLE accepted AS FROM following")
    else:
        raise StateError(f"{topic.name}: the classes of records do not settle: ids repeat too often after the horizon")
    duck.execute(f"""
        CREATE TEMP TABLE "verdict_{topic.name}" AS
        SELECT part, "off", id, CASE WHEN a."off" IS NULL THEN 'duplicate' WHEN late THEN 'late' ELSE 'counted' END
        AS verdict FROM arrivals LEFT JOIN accepted a USING (part, "off")
    """)


# For each valid record the newest time known to its partition before it, and including it (`t`).
_NEWEST_BEFORE = f"""
    CREATE OR REPLACE TEMP TABLE arrivals AS
    WITH running AS (
        SELECT v.*, greatest(s.newest, max(CASE WHEN a."off" IS NOT NULL THEN known END)
            OVER (PARTITION BY part ORDER BY "off" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS newest
        FROM valid v LEFT JOIN accepted a USING (part, "off") LEFT JOIN start s USING (part)
    )
    SELECT part, "off", id, known, coalesce(newest, known) AS before, greatest(before, known) AS t,
        known < before - {LATE_MICROS} AS late
    FROM running
"""

# An id is accepted again when its last acceptance is older than the horizon.
_ACCEPTED_NEXT = f"""
    CREATE OR REPLACE TEMP TABLE following AS
    WITH RECURSIVE repeated AS (
        SELECT * FROM arrivals QUALIFY count(*) OVER (PARTITION BY part, id) > 1
    ), chain AS (
        SELECT part, id, "off", t FROM (
            SELECT r.*, row_number() OVER (PARTITION BY part, id ORDER BY "off") AS place
            FROM arrivals r LEFT JOIN prior p USING (part, id) WHERE p.t IS NULL OR p.t < r.before - {HORIZON_MICROS}
        ) WHERE place = 1
        UNION ALL
        SELECT part, id, "off", t FROM (
            SELECT r.part, r.id, r."off", r.t, row_number() OVER (PARTITION BY r.part, r.id ORDER BY r."off") AS place
            FROM chain c JOIN repeated r ON r.part = c.part AND r.id = c.id AND r."off" > c."off"
            AND c.t < r.before - {HORIZON_MICROS}
        ) WHERE place = 1
    )
    SELECT part, "off" FROM chain
"""


def _load_spans(duck: Duck, topic: Topic, spans: Sequence[PartitionSpan]) -> None:
    names = PartitionSpan.__struct_fields__
    columns = [pa.array([getattr(span, name) for span in spans], pa.int64()) for name in names]
    rows = pa.table(columns, names=list(names))
    duck.register("spans", rows)
    duck.execute(f'CREATE TEMP TABLE "span_{topic.name}" AS FROM spans')
    duck.execute(f'CREATE OR REPLACE TEMP VIEW span AS FROM "span_{topic.name}"')
    duck.unregister("spans")


def _load_priors(duck: Duck, topic: Topic, partitions: int) -> None:
    """Load what a partition knew before its first retained record: history, and rows whose records were removed."""
    known, name = topic.known_field, topic.name
    # The arrival time of a removed record is the newest time known until then.
    duck.execute(f"""
        CREATE OR REPLACE TEMP TABLE gone AS
        SELECT part, "{topic.event_id}" AS id, "{known}" AS known, l.late, greatest(
            (SELECT max("{known}") FROM "history_{name}"),
            max(CASE WHEN NOT l.late THEN "{known}" END) OVER (PARTITION BY part ORDER BY "off")) AS t
        FROM "lake_{name}" l JOIN span USING (part) WHERE "off" < read_from
    """)
    duck.execute(f"""
        CREATE OR REPLACE TEMP TABLE start AS
        SELECT part, greatest((SELECT max("{known}") FROM "history_{name}"),
            (SELECT max(known) FROM gone WHERE gone.part = span.part AND NOT gone.late)) AS newest FROM span
    """)
    # Few ids of history repeat; a task stores those of its own keys.
    again = duck.sql(f"""
        SELECT "{topic.event_id}", "{topic.key}", min("{known}") FROM "history_{name}"
        WHERE "{topic.event_id}" IN (SELECT "{topic.event_id}" FROM "raw_{name}" WHERE NOT dead) GROUP BY ALL
    """).fetchall()
    columns = list(zip(*((partition_of(key, partitions), id_, t) for id_, key, t in again), strict=True)) or [
        (),
        (),
        (),
    ]
    kinds = (pa.int32(), pa.string(), pa.int64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    duck.register("again", pa.table(arrays, names=["part", "id", "t"]))
    duck.execute("""
        CREATE OR REPLACE TEMP TABLE prior AS
        SELECT part, id, max(t) AS t FROM (FROM again UNION ALL SELECT part, id, t FROM gone) GROUP BY ALL
    """)
    duck.unregister("again")


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if (
            sum(each.num_rows for each in waiting) >= _BATCH_ROWS
            or sum(each.nbytes for each in waiting) >= _BATCH_BYTES
        ):
            yield pa.Table.from_batches(waiting)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting)


def _in_micros(name: str, kind: pa.DataType) -> str:
    return f'epoch_us("{name}") AS "{name}"' if pa.types.is_timestamp(kind) else f'"{name}"'


def _micros_of_text(column: str) -> str:
    """A text timestamp as microseconds; digits after the sixth are truncated, as by the decoder."""
    return f"epoch_us(TRY_CAST(upper({column}) AS TIMESTAMPTZ))"


def _json_type(kind: pa.DataType) -> object:
    return [_json_type(kind.value_type)] if pa.types.is_list(kind) else _plain_type(kind, moment="VARCHAR")


def _sql_type(kind: pa.DataType) -> str:
    return f"{_sql_type(kind.value_type)}[]" if pa.types.is_list(kind) else _plain_type(kind, moment="BIGINT")


def _plain_type(kind: pa.DataType, *, moment: str) -> str:
    if pa.types.is_timestamp(kind):
        return moment
    return {pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.string(): "VARCHAR", pa.bool_(): "BOOLEAN"}[kind]
