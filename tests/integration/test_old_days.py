"""Old days are dropped from topics, lake and files, and the ledger still adds up: over a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from ledger_system import (
    emptied,
    end_of,
    ingest,
    kinds,
    message,
    own_broker,
    produce,
    remove_until,
    row_of,
    table_of,
    where,
)
from sample_events import NOW, stream

from reference_system.features.stream.snapshot import task_files
from reference_system.flows.retention.old_days import drop_old_days, first_kept
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.proofs.ledger.ledger import recount_and_compare
from reference_system.proofs.ledger.report import LedgerReport
from reference_system.proofs.scratch_system import Scratch
from reference_system.settings import Settings
from reference_system.use_cases import topic_named

DAY = timedelta(days=1)
# Far longer than any window: most states can be recounted from what is kept.
STREAM_DAYS = 100.0


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Scratch]:
    with own_broker(tmp_path_factory.mktemp("old")) as running:
        yield running


@pytest.fixture
def system(running: Scratch, tmp_path: Path) -> Settings:
    """A system that has run for 100 days and keeps 60; without generated history."""
    settings = emptied(running, tmp_path)
    changes = {"keep_days": 60, "history_days": 0, "history_start": NOW - 365 * DAY}
    return settings.model_copy(update=changes)


def fill(settings: Settings, seed: int, count: int) -> None:
    messages = []
    for number, (topic, event) in enumerate(stream(seed, count, days=STREAM_DAYS)):
        messages.append(message(topic, event))
        if number % 31 == 30:
            messages.append(message(topic, event))
        if number % 41 == 40:
            messages.append((topic.name, b"c000001", b"no event " + str(number).encode()))
    produce(settings.kafka_bootstrap, messages)
    ingest(settings)


def assert_holds(report: LedgerReport) -> None:
    assert report.problems == []
    for line in report.topics:
        assert line.acknowledged == line.counted + line.late + line.dead_lettered + line.duplicates


def counts(report: LedgerReport) -> list[tuple[str, int, int, int, int]]:
    return [(line.topic, line.counted, line.late, line.dead_lettered, line.duplicates) for line in report.topics]


def days_of(settings: Settings, topic: str) -> list[str]:
    table = delta_lake.read(StatePaths(settings.state_dir).lake, topic_named(topic), columns=["event_day"]).read_all()
    return sorted(set(table["event_day"].to_pylist()))


def test_topics_keep_a_month_less_than_the_lake_and_the_ledger_adds_up(system: Settings):
    fill(system, 1, 3_000)
    before = recount_and_compare(system)
    assert_holds(before)
    rows = drop_old_days(system, NOW)
    assert rows > 500
    first = first_kept(system, NOW)
    assert days_of(system, "transactions")[0] == f"{first:%Y-%m-%d}"
    assert days_of(system, "videos")[0] < f"{first:%Y-%m-%d}"
    after = recount_and_compare(system)
    assert_holds(after)
    assert counts(after) == counts(before)
    lines = {line.topic: line for line in after.topics}
    assert lines["transactions"].removed > lines["transactions"].dropped > 100
    assert sum(line.dropped for line in after.topics) == rows
    assert after.states.compared > 150
    assert after.states.aged > 0
    assert after.digest == before.digest


def test_another_day_of_events_and_of_dropping_changes_nothing_of_that(system: Settings):
    fill(system, 1, 2_000)
    drop_old_days(system, NOW - 2 * DAY)
    fill(system, 2, 300)  # most of it is late by now, and some of it of days that were dropped
    assert_holds(recount_and_compare(system))
    drop_old_days(system, NOW)
    assert_holds(recount_and_compare(system))


def test_days_that_the_lake_drops_while_the_broker_still_has_them_are_explained(
    system: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("reference_system.flows.retention.old_days.delete_before", lambda *_: None)
    fill(system, 3, 2_000)
    before = recount_and_compare(system)
    drop_old_days(system, NOW)
    after = recount_and_compare(system)
    assert_holds(after)
    assert counts(after) == counts(before)
    assert all(line.removed == 0 for line in after.topics)
    assert sum(line.dropped for line in after.topics) > 0


def test_a_row_that_was_lost_before_its_day_was_dropped_is_missed(system: Settings):
    fill(system, 4, 1_000)
    paths = StatePaths(system.state_dir)
    table = delta_lake.read(paths.lake, topic_named("watches"), end=NOW - 80 * DAY).read_all().to_pylist()
    table_of(system, "watches").delete(where(table[0]))
    drop_old_days(system, NOW)
    assert ("watches", "totals that differ from the recount") in kinds(recount_and_compare(system))


def test_a_row_that_is_lost_of_the_days_that_are_kept_is_missed(system: Settings):
    fill(system, 5, 1_000)
    drop_old_days(system, NOW)
    table_of(system, "watches").delete(where(row_of(system, "watches")))
    assert ("watches", "accepted by the recount and not in the lake") in kinds(recount_and_compare(system))


def test_a_state_that_is_rebuilt_from_what_is_left_keeps_the_totals(system: Settings):
    fill(system, 6, 2_000)
    drop_old_days(system, NOW)
    before = recount_and_compare(system)
    for path in task_files(StatePaths(system.state_dir).stream_tasks).values():
        path.unlink()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    ingest(system)
    after = recount_and_compare(system)
    assert_holds(after)
    assert counts(after) == counts(before)


def test_the_broker_loses_the_records_that_no_recount_needs_and_no_other(system: Settings):
    fill(system, 7, 2_000)
    drop_old_days(system, NOW)
    needed = f"{first_kept(system, NOW) + 30 * DAY:%Y-%m-%d}"
    topic = topic_named("transactions")
    table = delta_lake.read(StatePaths(system.state_dir).lake, topic).read_all().to_pylist()
    with TopicLog(system.kafka_bootstrap) as log:
        for part, (first, _) in log.extent(topic.name).items():
            rows = [row for row in table if row["kafka_partition"] == part]
            assert first == min(row["kafka_offset"] for row in rows if row["event_day"] >= needed)
            assert any(row["kafka_offset"] < first for row in rows)


def test_what_was_removed_further_than_asked_stays_removed(system: Settings):
    fill(system, 8, 500)
    end = end_of(system.kafka_bootstrap, "transactions", 0)
    remove_until(system.kafka_bootstrap, {("transactions", 0): end})
    drop_old_days(system, NOW)
    with TopicLog(system.kafka_bootstrap) as log:
        assert log.extent("transactions")[0] == (end, end)
    assert_holds(recount_and_compare(system))


def test_files_of_old_days_go_and_others_stay(system: Settings):
    paths, first = StatePaths(system.state_dir), first_kept(system, NOW)
    old, kept = first - DAY, first
    folders = (paths.feature_tables / "customer_activity", paths.batch / "fraud")
    for folder in (*folders, paths.reports):
        folder.mkdir(parents=True)
    named = [folder / f"{day:%Y-%m-%d}.parquet" for folder in folders for day in (old, kept)]
    named += [paths.reports / f"{day:%Y-%m-%d}T0700.{kind}" for kind in ("html", "json") for day in (old, kept)]
    others = [paths.reports / "latest.html", folders[0] / "snapshot.parquet"]
    for path in (*named, *others):
        path.touch()
    drop_old_days(system, NOW)
    assert [path.exists() for path in named] == [False, True] * 4
    assert all(path.exists() for path in others)


@pytest.mark.parametrize(("keep", "history", "kept"), [(180, 90, 180), (180, 365, 365)])
def test_days_are_kept_from_a_midnight_on_and_the_generated_history_as_long_as_it_was(
    settings: Settings, keep: int, history: int, kept: int
):
    start = datetime.fromisoformat("2025-01-06T00:00:00+00:00")
    world = settings.model_copy(update={"keep_days": keep, "history_days": history, "history_start": start})
    assert first_kept(world, start + history * DAY + timedelta(hours=7)) == start
    late = start + 2_000 * DAY
    assert first_kept(world, late + timedelta(hours=7)) == late - kept * DAY
