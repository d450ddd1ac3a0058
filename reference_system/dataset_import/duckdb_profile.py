"""Profile: what a dataset looks like, read from its lake.

In: a dataset's manifest and folder. Out: counts, and rows over time for the eye.
Invariant: the counts are the lake's own, not what the imports remember.
"""
# ruff: noqa: S608 - the SQL is built from declarations in this repository; no input from outside reaches it

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import duckdb
import msgspec

from reference_system.dataset_import.file_shapes import file_shape
from reference_system.event_time import moment_of
from reference_system.lake import delta_lake
from reference_system.lake.datasets import DatasetManifest, disk_megabytes
from reference_system.lake.duckdb_connection import connection
from reference_system.paths import StatePaths

# The finest of these gives a picture of at most so many lines.
_STEPS = (("day", timedelta(days=1)), ("week", timedelta(days=7)), ("month", timedelta(days=28)))
_LINES = 40
_BAR = 50


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Events of a day, week, month or year, `[start, next start)`; `frauds` are 0 where there are no labels."""

    start: datetime
    events: int
    frauds: int


class DatasetProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One dataset."""

    dataset: str
    manifest: DatasetManifest
    what: str
    events: dict[str, int]
    entities: dict[str, int]
    label_share: float | None
    disk_mb: float
    step: str
    bins: tuple[Bin, ...]

    def lines(self) -> Iterator[str]:
        """The profile for a person."""
        manifest = self.manifest
        rows = self.events[file_shape(manifest.use_case).topics[0].name]
        yield f"{self.dataset}: {rows:,} {self.what} ({manifest.use_case}), {self.disk_mb:.1f} MB on disk"
        yield "  ".join(f"{field}: {count:,} different" for field, count in self.entities.items())
        yield f"from {manifest.first:%Y-%m-%d %H:%M:%S} to {manifest.last:%Y-%m-%d %H:%M:%S} (UTC)"
        if self.label_share is not None and manifest.label_delay is not None:
            delay = manifest.label_delay / timedelta(days=1)
            yield f"frauds: {self.events['chargebacks']:,} ({self.label_share:.3%}), known {delay:g} days later"
        for source in manifest.sources:
            refunds = f", {source.refunds:,} refunds" if source.refunds else ""
            yield (
                f"source: {source.file} (sha256 {source.sha256[:12]}…), {source.imported:,} of {source.rows:,} rows, "
                f"{source.duplicates:,} duplicates, {source.held_before:,} held before, {source.bad:,} bad{refunds}"
            )
        yield f"{self.what} by {self.step}" + ("" if self.label_share is None else ", and frauds among them")
        most = max(one.events for one in self.bins)
        for one in self.bins:
            bar = "█" * max(round(_BAR * one.events / most), 1 if one.events else 0)
            frauds = "" if self.label_share is None else f" {one.frauds:,}"
            yield f"  {one.start:%Y-%m-%d} {bar:{_BAR}} {one.events:,}{frauds}"


def profile(name: str, manifest: DatasetManifest, paths: StatePaths) -> DatasetProfile:
    """Look at a dataset."""
    shape = file_shape(manifest.use_case)
    main = shape.topics[0]
    with connection(paths.root, any_order=True) as duck:
        for topic in shape.topics:
            names = ["event_timestamp", *(shape.entities if topic is main else ())]
            table = delta_lake.read(paths.lake, topic, columns=names).read_all()
            duck.register(topic.name, table)
        events = {topic.name: _one(duck, f"SELECT count(*) FROM {topic.name}") for topic in shape.topics}
        entities = {
            field: _one(duck, f'SELECT count(DISTINCT "{field}") FROM {main.name}') for field in shape.entities
        }
        step = _step(manifest)
        bins = _bins(duck, main.name, "chargebacks" if "chargebacks" in events else None, step)
    return DatasetProfile(
        dataset=name,
        manifest=manifest,
        what=shape.what,
        events=events,
        entities=entities,
        label_share=events["chargebacks"] / events[main.name] if "chargebacks" in events else None,
        disk_mb=round(disk_megabytes(paths.root.parent), 3),
        step=step,
        bins=bins,
    )


def _step(manifest: DatasetManifest) -> str:
    span = manifest.last - manifest.first
    return next((name for name, length in _STEPS if span / length < _LINES), "year")


def _bins(duck: duckdb.DuckDBPyConnection, events: str, labels: str | None, step: str) -> tuple[Bin, ...]:
    # Without the time zone extension DuckDB cuts plain timestamps only; they are UTC.
    at = f"date_trunc('{step}', make_timestamp(epoch_us(event_timestamp)))"
    sides = [f"SELECT {at} AS start, 1 AS event, 0 AS fraud FROM {events}"]
    if labels is not None:
        sides.append(f"SELECT {at}, 0, 1 FROM {labels}")
    found = duck.sql(f"""
        WITH counts AS (
            SELECT start, sum(event) AS events, sum(fraud) AS frauds FROM ({" UNION ALL ".join(sides)}) GROUP BY start
        ),
        steps AS (
            SELECT unnest(generate_series(min(start)::TIMESTAMP, max(start)::TIMESTAMP, INTERVAL 1 {step})) AS start
            FROM counts
        )
        SELECT epoch_us(start), coalesce(events, 0)::BIGINT, coalesce(frauds, 0)::BIGINT
        FROM steps LEFT JOIN counts USING (start) ORDER BY start
    """).fetchall()
    return tuple(Bin(start=moment_of(time), events=events, frauds=frauds) for time, events, frauds in found)


def _one(duck: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(duck.sql(query).fetchall()[0][0])
