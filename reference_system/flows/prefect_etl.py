"""ETL: lake → feature tables → online store, for a range of days.

In: the lake, and the mark of the last run. Out: feature tables day by day, snapshots, a newer mark.
Invariant: days are computed whole and replaced whole, so any range can be computed again at any time (a backfill),
and two runs at once wait for each other.

What must be computed again? The lake gets an event a few seconds after it happened, and ingestion takes events that
are up to a day late into its windows. So a run ends a little before now, and the next begins a day before that end.
Labels need no more than that: a chargeback comes up to seven days late, but its windows are shifted by as much, so
it only touches moments after it was known.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from prefect import flow, task

from reference_system.clock import SimulatedClock
from reference_system.errors import ServiceError, StateError
from reference_system.features.feast import store as feast_store
from reference_system.features.feast.feature_tables import complete_until, write_days, write_mark, write_snapshot
from reference_system.features.feast.objects import join_key, state_name
from reference_system.features.history.states import states
from reference_system.features.history.values import feature_rows
from reference_system.file_lock import locked
from reference_system.flows.prefect_steps import say, step, warn
from reference_system.flows.retention.old_days import drop_old_days, first_kept
from reference_system.lake import delta_upkeep
from reference_system.paths import StatePaths
from reference_system.settings import Settings, load_settings
from reference_system.stack.disk_use import remember_size
from reference_system.use_case import USE_CASES
from reference_system.use_cases import TOPICS, VIEWS, VIEWS_OF
from reference_system.windows import WindowedView

_ONE_DAY = timedelta(days=1)
# Days that are computed at once: bounds memory, and each piece reads the windows' horizon once more.
_PIECE = timedelta(days=45)
# Ratings are kept for ever.
_LONGEST_WINDOW = timedelta(
    microseconds=max(
        view.horizon_micros for use_case in USE_CASES for view in VIEWS_OF[use_case] if isinstance(view, WindowedView)
    )
)
# Real seconds after which what happened is in the lake: ingestion appends about every five.
_SETTLE_SECONDS = 10.0


class EtlSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did."""

    start: datetime
    end: datetime
    as_of: datetime
    days: int
    compacted_files: int
    dropped_rows: int
    rows: dict[str, int]
    states: dict[str, int]


@flow(name="etl", log_prints=False)
def etl(start: str | None = None, end: str | None = None) -> dict[str, object]:
    """Compute feature tables and states.

    Args:
        start: ISO date or moment; its whole day is computed. By default a day before the last run's end.
        end: ISO date or moment, exclusive; its whole day is computed. By default the event clock's now.

    Returns:
        `EtlSummary` as a dict.
    """
    settings = load_settings()
    paths = StatePaths(settings.state_dir)
    with locked(paths.feature_tables / "etl.lock"):
        now = SimulatedClock(paths.clock).now()
        first, last = _span(settings, paths, start, end, now)
        old = step(drop_what_is_old, now)
        compacted = step(compact_lake, str(paths.lake))
        rows = {
            view.name: step(build_feature_table, view.name, first, last)
            for view in VIEWS
            if isinstance(view, WindowedView)
        }
        found = step(materialize_states, first, now)
        _advance(paths, settings, first, last)
        remember_size(settings.state_dir, now)
    summary = EtlSummary(
        start=first,
        end=last,
        as_of=now,
        days=-((first - last) // _ONE_DAY),
        compacted_files=compacted,
        dropped_rows=old,
        rows=rows,
        states=found,
    )
    done: dict[str, object] = msgspec.to_builtins(summary)
    return done


@task
def drop_what_is_old(now: datetime) -> int:
    """Drop the days that are no longer kept; returns how many rows of the lake that were."""
    try:
        rows = drop_old_days(load_settings(), now)
    except ServiceError as error:
        warn(f"old days stay until the next run: {error}")
        return 0
    if rows:
        say(f"lake: {rows} rows of old days dropped")
    return rows


@task
def compact_lake(lake: str) -> int:
    """Merge the stream's small files; returns how many went into larger ones."""
    removed = sum(delta_upkeep.compact(Path(lake), topic) for topic in TOPICS)
    say(f"lake: {removed} small files merged")
    return removed


@task
def build_feature_table(name: str, start: datetime, end: datetime) -> int:
    """Compute a windowed view's values for [start, end), `start` a midnight; returns the number of rows."""
    paths = StatePaths(load_settings().state_dir)
    (view,) = (view for view in VIEWS if view.name == name and isinstance(view, WindowedView))
    rows = 0
    while start < end:
        until = min(start + _PIECE, end)
        table = feature_rows(view, paths.lake, start, until)
        write_days(paths.feature_tables / name, table, start, until)
        say(f"{name}: {table.num_rows} rows from {start:%Y-%m-%d} to {until:%Y-%m-%d %H:%M}")
        rows += table.num_rows
        start = until
    return rows


@task
def materialize_states(start: datetime, as_of: datetime) -> dict[str, int]:
    """Snapshot every view's states and let Feast materialize those that changed since `start`."""
    paths = StatePaths(load_settings().state_dir)
    found = {}
    for view in VIEWS:
        folder = paths.feature_tables / state_name(view)
        rows = states(view, paths.lake, as_of)
        found[view.name] = write_snapshot(folder, join_key(view), rows, as_of)
    store = feast_store.open_store(paths)
    # Always: opening a store leaves an empty registry behind, so a file that exists proves nothing.
    feast_store.apply(store)
    feast_store.materialize(store, start, as_of)
    say(f"online store: states of {sum(found.values())} entities materialized as of {as_of:%Y-%m-%d %H:%M}")
    return found


def _span(
    settings: Settings, paths: StatePaths, start: str | None, end: str | None, now: datetime
) -> tuple[datetime, datetime]:
    """The range to compute: it begins at a midnight and ends at one, or where the lake is complete."""
    settled = now - timedelta(seconds=_SETTLE_SECONDS * settings.speed)
    last = settled if end is None else min(settled, _midnight(_moment(end) + _ONE_DAY - timedelta(microseconds=1)))
    if start is not None:
        first = _moment(start)
    else:
        complete = complete_until(paths.feature_tables)
        first = settings.history_start if complete is None else max(settings.history_start, complete - _ONE_DAY)
    first = _midnight(first)
    kept = first_kept(settings, now)
    whole = kept + _LONGEST_WINDOW if kept > settings.history_start else first
    if first < whole and start is not None:
        raise StateError(
            f"the lake keeps events from {kept:%Y-%m-%d} on (WORKBOOK_KEEP_DAYS): features of {first:%Y-%m-%d} would"
            f" lack a part of their windows, which reach back {_LONGEST_WINDOW.days} days"
        )
    first = max(first, _midnight(whole))
    if first >= last:
        raise StateError(f"nothing to compute from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} (event time)")
    return first, last


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _advance(paths: StatePaths, settings: Settings, first: datetime, last: datetime) -> None:
    """Move the mark, if the range begins where the tables are complete: a backfill leaves no hole behind it."""
    complete = complete_until(paths.feature_tables)
    if first <= (complete or settings.history_start) and (complete is None or last > complete):
        write_mark(paths.feature_tables, last)
