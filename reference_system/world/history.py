"""History: generated events of the same world, written to the lake before live traffic begins.

In: the settings. Out: every event of [history_start, history_start + history_days) in the lake, the checkpoint from
which live traffic continues, a clock at the end of history, and finally a marker.
Invariant: a history without the marker is unfinished and is generated again; a lake with live events is never touched.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec

from reference_system.clock import Heartbeat, wall_seconds, write_heartbeat
from reference_system.errors import StateError
from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.replaced_files import read_record, replace_file
from reference_system.settings import Settings
from reference_system.use_cases import EVENT_TOPICS, TOPICS
from reference_system.world import checkpoint
from reference_system.world.columns import Chargebacks, Pages, PaymentColumns, Publications, Watches
from reference_system.world.records import arrow_columns, record_fields
from reference_system.world.simulation import HISTORY_SLICE, Happened, World, make_world

MARKER = "history.json"
# A block is one commit for each topic. Ten days limit the memory and keep the events of a day in one file.
_BLOCK_DAYS = 10


class Marker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The record of a finished history."""

    identity: checkpoint.WorldIdentity
    days: int
    rows: dict[str, int]


def write_history(settings: Settings, tell: Callable[[str], None]) -> Marker:
    """Generate the history unless it exists.

    Args:
        settings: of the world and its number of days.
        tell: called with one line of progress per block.

    Raises:
        StateError: if the state directory holds another world, or live events without a finished history.
    """
    paths = StatePaths(settings.state_dir)
    found = read_marker(paths.world)
    if found is not None:
        checkpoint.refuse_other(found.identity, settings)
        if found.days != settings.history_days:
            raise StateError(
                f"the history has {found.days} days and the settings ask for {settings.history_days}",
                next_command="make clean",
            )
        tell(f"history exists: {found.days} days, {sum(found.rows.values()):,} rows")
        return found
    _remove_unfinished(paths)
    return _generate(settings, paths, tell)


def read_marker(folder: Path) -> Marker | None:
    """The marker of a finished history, if there is one.

    Raises:
        StateError: if it is damaged.
    """
    return read_record(folder / MARKER, Marker, next_command="make clean")


def generate_block(world: World, until: int) -> Happened:
    """Advance the world to `until` in history slices, with pages of the popularity policy."""
    parts: list[Happened] = []
    while world.generated < until:
        parts.append(world.advance(world.generated + HISTORY_SLICE, HISTORY_SLICE, world.viewing.popular_pages))
    return Happened(
        payments=PaymentColumns.joined([part.payments for part in parts]),
        chargebacks=Chargebacks.joined([part.chargebacks for part in parts]),
        reversals=Chargebacks.joined([part.reversals for part in parts]),
        publications=Publications.joined([part.publications for part in parts]),
        pages=Pages.joined([part.pages for part in parts]),
        watches=Watches.joined([part.watches for part in parts]),
    )


def _generate(settings: Settings, paths: StatePaths, tell: Callable[[str], None]) -> Marker:
    world = make_world(settings)
    start = world.generated
    rows = dict.fromkeys((topic.name for topic in EVENT_TOPICS), 0)
    for first in range(0, settings.history_days, _BLOCK_DAYS):
        last = min(first + _BLOCK_DAYS, settings.history_days)
        happened = generate_block(world, start + last * MICROS_PER_DAY)
        for topic, fields in record_fields(happened, world.viewing.catalogue).items():
            table = delta_lake.history_table(topic, arrow_columns(fields))
            delta_lake.append(paths.lake, topic, table, versions={})
            rows[topic.name] += table.num_rows
        tell(f"history: {last} of {settings.history_days} days, {sum(rows.values()):,} rows")
    end = settings.history_start + timedelta(days=settings.history_days)
    checkpoint.save(paths.world, settings, world, micros(end))
    write_heartbeat(paths.clock, Heartbeat(event_time=end, wall_seconds=wall_seconds(), speed=0.0))
    marker = Marker(identity=checkpoint.identity_of(settings), days=settings.history_days, rows=rows)
    replace_file(paths.world / MARKER, msgspec.json.encode(marker))
    return marker


def _remove_unfinished(paths: StatePaths) -> None:
    """Remove the tables of an interrupted run.

    Raises:
        StateError: if the lake has live events, which cannot be generated again.
    """
    live = [topic.name for topic in TOPICS if delta_lake.committed_offsets(paths.lake, topic)]
    if live:
        raise StateError(
            f"the lake has live events ({', '.join(live)}) but no finished history; it is left as it is",
            next_command="make clean",
        )
    for topic in EVENT_TOPICS:
        shutil.rmtree(paths.lake / topic.name, ignore_errors=True)
