"""Snapshot: what the online store must hold for each entity, computed from the lake.

In: a view's declaration and a moment (or the stream's offsets). Out: `(entity key, time, state)` for each entity.
Invariant: `evaluate` on a tail from here says what it says on the tail that the stream kept.

The bytes are those that the stream pushes: `Tail.pack` for windows, and MessagePack for recent items
(`[[time, item], …]`, newest first) and profiles (`{field: value}`, times in microseconds). A state's time is that of
the newest event in it; for labels, the moment from which they could be known.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.features.history.rows import EVENT_TIME, FAR_FUTURE, load_told, rows_query, sources_of
from reference_system.lake import delta_lake
from reference_system.lake.duckdb_connection import connection
from reference_system.reported_rows import ReportedFact, memory_of
from reference_system.use_cases import topic_named
from reference_system.windows import EVERYONE, LatestFields, RecentItems, Tail, View, WindowedView

State = tuple[str, int, bytes]
# Offsets that a consumer has reached: (topic, Kafka partition) → the last offset that counts.
Offsets = Mapping[tuple[str, int], int]
_MICRO = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    """Which events of the lake count."""

    lake: Path
    as_of: datetime
    offsets: Offsets | None

    def register(
        self, duck: duckdb.DuckDBPyConnection, name: str, topic: str, fields: Sequence[str], start: datetime | None
    ) -> None:
        """Make the fields of a topic's events available under a name, from `start` on."""
        of_topic = topic_named(topic)
        if self.offsets is None:
            end = self.as_of + _MICRO
            events = delta_lake.read(self.lake, of_topic, start=start, end=end, columns=fields, counted_only=True)
            duck.register(name, events)
            return
        reached = [
            f"kafka_partition = {partition} AND kafka_offset <= {offset}"
            for (other, partition), offset in self.offsets.items()
            if other == topic
        ]
        counts = " OR ".join([f"kafka_offset = {delta_lake.NO_OFFSET}", *reached])
        origin = ("kafka_partition", "kafka_offset")
        everything = delta_lake.read(self.lake, of_topic, columns=[*fields, *origin], counted_only=True)
        duck.register(f"all_{name}", everything)
        duck.execute(f"CREATE TEMP VIEW {name} AS SELECT * FROM all_{name} WHERE {counts}")


def states(view: View, lake: Path, as_of: datetime, *, offsets: Offsets | None = None) -> Iterator[State]:
    """The state of every entity that has one.

    Args:
        view: the declaration.
        lake: the lake's folder.
        as_of: the moment; only what could be known by then counts.
        offsets: where given, exactly the events up to these offsets count (and all of the generated history),
            whatever their time: the state of a consumer that has reached them, to the byte. `as_of` then says nothing.
    """
    events = _Events(lake=lake, as_of=as_of, offsets=offsets)
    with connection(lake.parent, any_order=True) as duck:
        match view:
            case WindowedView():
                yield from _tails(duck, view, events)
            case RecentItems():
                yield from _recent_items(duck, view, events)
            case LatestFields():
                yield from _profiles(duck, view, events)


def _tails(duck: duckdb.DuckDBPyConnection, view: WindowedView, events: _Events) -> Iterator[State]:
    # The same slack of a day as in `extend`, and one tile more, because the first tile that is read may be cut.
    slack = view.horizon_micros + MICROS_PER_DAY
    first = events.as_of - timedelta(microseconds=slack + view.tile_micros)
    for name, topic, fields in sources_of(view):
        events.register(duck, name, topic, fields, first)
    known = "true" if events.offsets is not None else f"known <= {micros(events.as_of)}"
    load_told(duck, view, only=known)
    whole = micros(first) + view.tile_micros
    # A stream forgets what is older than its entity's own newest row needs; for a moment, what that moment needs.
    newest = f"t > max(t) OVER (PARTITION BY entity) - {slack}"
    kept = newest if events.offsets is not None else f"t > {whole}"
    stands = "" if view.once is None else f" * (until = {FAR_FUTURE})::DOUBLE"
    values = ", ".join(f'"{name}"{stands} AS "{name}"' for name in view.columns)
    # The newest event may be about something too old to be kept.
    duck.execute(f"""
        CREATE TEMP TABLE kept AS
        SELECT entity, t, max(known) OVER (PARTITION BY entity) AS known, {values}
        FROM ({rows_query(view, only=known)}) QUALIFY {kept}
    """)
    order = ", ".join(f'"{name}"' for name in view.columns)
    table = duck.sql(f"SELECT * FROM kept ORDER BY entity, t, {order}").to_arrow_table()
    times = table["t"].to_numpy()
    known_at = table["known"].to_numpy()
    values_of = np.column_stack([table[name].to_numpy() for name in view.columns])
    memories = _memories(duck) if view.once is not None else {}
    runs = pc.run_end_encode(table["entity"].combine_chunks())
    start = 0
    for key, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        rows = Tail(times[start:end], values_of[start:end]).pack()
        yield key, int(known_at[start]), memories.get(key, b"") + rows
        start = end


def _memories(duck: duckdb.DuckDBPyConnection) -> dict[str, bytes]:
    """For each entity with rows that count once what was told of these facts."""
    reports: dict[str, set[ReportedFact]] = {}
    told = "SELECT entity, t, fact, report, taken_back FROM told SEMI JOIN kept USING (entity, t)"
    for entity, *report in duck.sql(told).fetchall():
        reports.setdefault(entity, set()).add(tuple(report))
    return {entity: memory_of(found) for entity, found in reports.items()}


def _recent_items(duck: duckdb.DuckDBPyConnection, view: RecentItems, events: _Events) -> Iterator[State]:
    fields = ["event_timestamp", view.item, *([view.entity] if view.entity else [])]
    events.register(duck, "events", view.topic, fields, None)
    key = f'"{view.entity}"' if view.entity else f"'{EVERYONE}'"
    newest = "ORDER BY t DESC, item"
    rows = duck.sql(f"""
        WITH items AS (SELECT {key} AS key, "{view.item}" AS item, max({EVENT_TIME}) AS t FROM events GROUP BY ALL),
        latest AS (SELECT * FROM items QUALIFY row_number() OVER (PARTITION BY key {newest}) <= {view.length})
        SELECT key, list(t {newest}) AS times, list(item {newest}) AS items FROM latest GROUP BY key ORDER BY key
    """)
    encoder = msgspec.msgpack.Encoder()
    for entity, times, items in rows.fetchall():
        yield entity, times[0], encoder.encode(list(zip(times, items, strict=True)))


def _profiles(duck: duckdb.DuckDBPyConnection, view: LatestFields, events: _Events) -> Iterator[State]:
    fields = sorted({"event_timestamp", view.entity, *view.fields})
    events.register(duck, "events", view.topic, fields, None)
    schema = delta_lake.arrow_schema(topic_named(view.topic))
    values = ", ".join(
        f'epoch_us("{name}")' if pa.types.is_timestamp(schema.field(name).type) else f'"{name}"'
        for name in view.fields
    )
    rows = duck.sql(f"""
        SELECT "{view.entity}", {EVENT_TIME}, {values} FROM events
        QUALIFY row_number() OVER (PARTITION BY "{view.entity}" ORDER BY {EVENT_TIME} DESC) = 1
        ORDER BY "{view.entity}"
    """)
    encoder = msgspec.msgpack.Encoder()
    for entity, time, *found in rows.fetchall():
        yield entity, time, encoder.encode(dict(zip(view.fields, found, strict=True)))
