"""The ledger over a real broker, lake and online store: it holds, and every kind of damage is named."""

# ruff: noqa: S608 - the SQL damages tables of the test's own; no input from outside reaches it

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from ledger_system import (
    emptied,
    end_of,
    ingest,
    kinds,
    message,
    mixed,
    own_broker,
    produce,
    remove_until,
    row_of,
    table_of,
    where,
)
from local_broker import free_port_offset
from sample_events import TOPIC_NAMES, example, stream
from typer.testing import CliRunner

from reference_system.cli import app
from reference_system.errors import ServiceError, StateError
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.proofs.ledger.ledger import recount_and_compare
from reference_system.proofs.ledger.report import LedgerReport
from reference_system.proofs.scratch_system import Scratch
from reference_system.settings import Settings
from reference_system.use_cases import topic_named

HISTORY_DAYS = 40.0


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Iterator[Settings]:
    """A system with history and traffic of every kind, caught up; tests damage copies of it."""
    with own_broker(tmp_path_factory.mktemp("ledger")) as running:
        lay_history(running)
        produce(running.settings.kafka_bootstrap, mixed(1, 1_500))
        ingest(running.settings)
        produce(running.settings.kafka_bootstrap, mixed(2, 300))
        ingest(running.settings)
        yield running.settings


@pytest.fixture
def system(whole: Settings, tmp_path: Path) -> Settings:
    """A copy of its lake, states and online store, over the same broker."""
    for name in ("lake", "ingestion", "feast"):
        shutil.copytree(whole.state_dir / name, tmp_path / name)
    return whole.model_copy(update={"state_dir": tmp_path})


@pytest.fixture(scope="module")
def another_broker(tmp_path_factory) -> Iterator[Scratch]:
    with own_broker(tmp_path_factory.mktemp("fresh")) as running:
        yield running


@pytest.fixture
def fresh(another_broker: Scratch, tmp_path: Path) -> Settings:
    """An empty system, for damage to its topics."""
    return emptied(another_broker, tmp_path)


def lay_history(scratch: Scratch) -> None:
    """Rows before everything that is streamed; one payment of them is sent again later."""
    for name in TOPIC_NAMES:
        topic = topic_named(name)
        events = [
            msgspec.structs.replace(event, event_timestamp=event.event_timestamp - timedelta(days=12.0))
            for found, event in stream(7, 1_500, days=HISTORY_DAYS)
            if found.name == name and name != "chargebacks"
        ]
        rows = delta_lake.to_table(topic, events, [-1] * len(events), [-1] * len(events))
        delta_lake.append(scratch.paths.lake, topic, rows, versions={})


def test_the_ledger_of_a_whole_system_holds(system: Settings):
    report = recount_and_compare(system)
    assert report.problems == []
    for line in report.topics:
        assert line.acknowledged == line.counted + line.late + line.dead_lettered + line.duplicates
        assert (line.missing, line.extra, line.double, line.waiting, line.removed) == (0, 0, 0, 0, 0)
    assert (report.lost, report.double) == (0, 0)
    lines = {line.topic: line for line in report.topics}
    assert min(lines["transactions"].late, lines["watches"].dead_lettered, lines["impressions"].duplicates) > 0
    states = report.states
    assert states.compared == states.online_compared > 200
    assert states.different + states.missing + states.extra + states.online_different == 0


def test_nothing_of_the_system_is_changed_and_nothing_is_left_behind(system: Settings):
    def files() -> dict[Path, bytes]:
        found = (path for path in system.state_dir.rglob("*") if path.is_file())
        # Whoever opens a database in write-ahead mode makes its side files.
        return {path: path.read_bytes() for path in found if not path.name.endswith(("-wal", "-shm"))}

    before = files()
    recount_and_compare(system)
    assert files() == before


def delete_row(system: Settings) -> str:
    row = row_of(system, "watches")
    table_of(system, "watches").delete(where(row))
    return str(row["watch_id"])


def double_row(system: Settings) -> str:
    row = row_of(system, "impressions")
    again = pa.Table.from_pylist([row], delta_lake.arrow_schema(topic_named("impressions")))
    delta_lake.append(StatePaths(system.state_dir).lake, topic_named("impressions"), again, versions={})
    return str(row["impression_id"])


def invent_row(system: Settings) -> str:
    """A row in the place of a duplicate or of a dead letter."""
    topic = topic_named("watches")
    table = delta_lake.read(StatePaths(system.state_dir).lake, topic).read_all()
    held = {(row["kafka_partition"], row["kafka_offset"]) for row in table.to_pylist()}
    part, offset = min((part, at + 1) for part, at in held if part >= 0 and (part, at + 1) not in held and at > 3)
    rows = delta_lake.to_table(topic, [example("watches", watch_id="invented")], [part], [offset])
    delta_lake.append(StatePaths(system.state_dir).lake, topic, rows, versions={})
    return "invented"


def change_row(system: Settings) -> str:
    row = row_of(system, "transactions")
    table_of(system, "transactions").update(predicate=where(row), updates={"amount": "amount + 0.01"})
    return str(row["transaction_id"])


def change_list(system: Settings) -> str:
    row = row_of(system, "impressions")
    again = pa.Table.from_pylist(
        [{**row, "video_ids": [*row["video_ids"][1:], "m1"]}], delta_lake.arrow_schema(topic_named("impressions"))
    )
    table_of(system, "impressions").delete(where(row))
    delta_lake.append(StatePaths(system.state_dir).lake, topic_named("impressions"), again, versions={})
    return str(row["impression_id"])


def change_late(system: Settings) -> str:
    row = row_of(system, "transactions")
    table_of(system, "transactions").update(predicate=where(row), updates={"late": "NOT late"})
    return str(row["transaction_id"])


def in_state(statement: str, *, task: int = 0, example: str) -> Callable[[Settings], str]:
    def run(system: Settings) -> str:
        with sqlite3.connect(system.state_dir / "ingestion" / f"task-{task}.sqlite") as db:
            assert db.execute(statement).rowcount == 1
        return example

    return run


def busiest(view: str) -> str:
    return f"(SELECT key FROM state WHERE view = '{view}' ORDER BY length(state) DESC, key LIMIT 1)"


def change_state(view: str) -> Callable[[Settings], str]:
    def run(system: Settings) -> str:
        with sqlite3.connect(system.state_dir / "ingestion" / "task-0.sqlite") as db:
            row, key, state = db.execute(
                f"SELECT rowid, key, state FROM state WHERE view = '{view}' ORDER BY length(state) DESC LIMIT 1"
            ).fetchone()
            changed = bytearray(state)
            changed[-1] ^= 1
            db.execute("UPDATE state SET state = ? WHERE rowid = ?", (bytes(changed), row))
        return str(key)

    return run


def change_online(system: Settings) -> str:
    from reference_system.features.feast.store import open_store, read_states, write_states
    from reference_system.use_cases import VIEWS

    (view,) = (view for view in VIEWS if view.name == "customer_activity")
    store = open_store(StatePaths(system.state_dir))
    (value, time) = read_states(store, view, ["c000001"])[0]
    write_states(store, view, [("c000001", time + 1, 2**40, value)])
    return "c000001"


DAMAGE = {
    "a row is deleted from the lake": (
        delete_row,
        {("watches", "accepted by the recount and not in the lake")},
    ),
    "a row is twice in the lake": (double_row, {("impressions", "more than once in the lake")}),
    "a row has no accepted record": (
        invent_row,
        {("watches", "in the lake and not accepted by the recount")},
    ),
    "an amount differs by a cent": (
        change_row,
        {("transactions", "in the lake with other values than its record")},
    ),
    "a list has other items": (change_list, {("impressions", "in the lake with other values than its record")}),
    "an event is taken for late": (
        change_late,
        {("transactions", "late in the recount or in the lake, but not in both")},
    ),
    "an offset is moved back": (
        in_state("UPDATE position SET next_offset = next_offset - 1 WHERE topic = 'predictions'", example="task 0"),
        {("predictions", "totals that differ from the recount")},
    ),
    "an offset is moved on": (
        in_state(
            "UPDATE position SET next_offset = next_offset + 1 WHERE topic = 'predictions'", example="partition 0"
        ),
        {
            ("predictions", "not in the lake yet"),
            ("predictions", "read by the state and not held by the broker"),
        },
    ),
    "a total is changed": (
        in_state(
            "UPDATE total SET events = events + 1 WHERE topic = 'watches' AND outcome = 'counted'",
            example="task 0 counted",
        ),
        {("watches", "totals that differ from the recount")},
    ),
    "a bit of a window is changed": (
        change_state("customer_activity"),
        {
            ("customer_activity", "states that differ from the recount"),
            ("customer_activity", "values of the online store that are not the state's"),
        },
    ),
    "a bit of a tile is changed": (
        change_state("video_popularity"),
        {
            ("video_popularity", "states that differ from the recount"),
            ("video_popularity", "values of the online store that are not the state's"),
        },
    ),
    "a state is gone": (
        in_state(f"DELETE FROM state WHERE view = 'terminal_risk' AND key = {busiest('terminal_risk')}", example="t0"),
        {("terminal_risk", "states that the recount has and no task")},
    ),
    "a state is invented": (
        in_state(
            "INSERT INTO state SELECT view, 'nobody', time, -1, state FROM state WHERE view = 'viewer_activity'"
            " LIMIT 1",
            example="nobody",
        ),
        {
            ("viewer_activity", "states that a task has and not the recount"),
            ("viewer_activity", "values of the online store that are not the state's"),
        },
    ),
    "the time of a state is changed": (
        in_state(
            "UPDATE state SET time = time + 1 WHERE view = 'viewer_recent_watches'"
            f" AND key = {busiest('viewer_recent_watches')}",
            example="time",
        ),
        {
            ("viewer_recent_watches", "states that differ from the recount"),
            ("viewer_recent_watches", "values of the online store that are not the state's"),
        },
    ),
    "a value of the online store is changed": (
        change_online,
        {("customer_activity", "values of the online store that are not the state's")},
    ),
}


# A ledger costs seconds, so each is made of several damages: no two of a group show in the same place.
GROUPS = (
    (
        "a row is deleted from the lake",
        "a row is twice in the lake",
        "an amount differs by a cent",
        "an offset is moved back",
        "a bit of a window is changed",
    ),
    (
        "a row has no accepted record",
        "a list has other items",
        "an event is taken for late",
        "an offset is moved on",
        "a bit of a tile is changed",
    ),
    (
        "a total is changed",
        "a state is gone",
        "a state is invented",
        "the time of a state is changed",
        "a value of the online store is changed",
    ),
)


def test_every_damage_is_in_one_group_and_no_two_of_a_group_show_in_one_place():
    assert sorted(damage for group in GROUPS for damage in group) == sorted(DAMAGE)
    for group in GROUPS:
        places = [place for damage in group for place in {place for place, _ in DAMAGE[damage][1]}]
        assert len(places) == len(set(places))


@pytest.mark.parametrize("group", GROUPS, ids=["one", "two", "three"])
def test_damage_is_found_and_named(system: Settings, group: tuple[str, ...], monkeypatch: pytest.MonkeyPatch):
    # Nobody pushes here, so there is nothing to wait for.
    monkeypatch.setattr("reference_system.proofs.ledger.states._PUSH_SECONDS", 0.0)
    named = {damage: DAMAGE[damage][0](system) for damage in group}
    report = recount_and_compare(system, lake_seconds=0.0)
    assert kinds(report) == set().union(*(DAMAGE[damage][1] for damage in group))
    for damage, name in named.items():
        found = [each for each in report.problems if (each.where, each.kind) in DAMAGE[damage][1]]
        assert any(name in example for each in found for example in each.examples), damage
    assert all(each.count and each.next_command for each in report.problems)


def test_a_task_without_a_file_is_named(system: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("reference_system.proofs.ledger.states._PUSH_SECONDS", 0.0)
    for path in (system.state_dir / "ingestion").glob("task-2.sqlite*"):
        path.unlink()
    report = recount_and_compare(system, lake_seconds=0.0)
    assert ("ingestion", "no state") in kinds(report)
    assert next(each for each in report.problems if each.kind == "no state").examples == ["task 2"]


def test_a_state_that_was_not_pushed_yet_is_in_flight_and_no_difference(
    system: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("reference_system.proofs.ledger.states._PUSH_SECONDS", 0.0)
    with sqlite3.connect(system.state_dir / "ingestion" / "task-0.sqlite") as db:
        db.execute("UPDATE mark SET value = -1 WHERE name = 'pushed'")
    change = sqlite3.connect(StatePaths(system.state_dir).online_store)
    names = [name for (name,) in change.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    table = next(name for name in names if "customer_activity" in name)
    with change:
        change.execute(f'DELETE FROM "{table}"')
    change.close()
    report = recount_and_compare(system)
    assert report.states.online_in_flight > 0
    assert {each.where for each in report.problems} <= {"customer_activity"}


def test_a_dead_letter_that_is_missing_forged_or_of_no_record_is_named(fresh: Settings):
    settings, bootstrap = fresh, fresh.kafka_bootstrap
    good = example("transactions")
    topic = topic_named("transactions")
    produce(bootstrap, [message(topic, good), (topic.name, b"c000001", b"nonsense"), (topic.name, b"c000001", b"{}")])
    ingest(settings)
    assert recount_and_compare(settings).problems == []
    part = next(int(span) for span in range(settings.kafka_partitions) if end_of(bootstrap, topic.name, span) == 3)

    origin = {"topic": topic.name, "partition": str(part), "offset": "0", "error": "forged"}
    headers = [(name, value.encode()) for name, value in origin.items()]
    produce(bootstrap, [(topic.dead_letter, b"c000001", b"forged")], headers=headers)
    forged = {(each.kind, *each.examples) for each in recount_and_compare(settings).problems}
    assert (
        "on the dead-letter topic with other bytes or another key than its record",
        f"transactions/{part}/0",
    ) in forged
    assert (
        "in the lake and not accepted by the recount",
        f"x1 at transactions/{part}/0 (also a dead letter)",
    ) in forged

    remove_until(bootstrap, {(topic.dead_letter, part): end_of(bootstrap, topic.dead_letter, part)})
    missing = {(each.kind, *each.examples) for each in recount_and_compare(settings).problems}
    assert (
        "no event, and not on the dead-letter topic",
        f"transactions/{part}/1",
        f"transactions/{part}/2",
    ) in missing
    assert "totals that differ from the recount" in {kind for kind, *_ in missing}

    headers = [("topic", b"videos"), ("partition", b"0"), ("offset", b"5"), ("error", b"invented")]
    produce(bootstrap, [("videos.dead-letter", b"k", b"v")], headers=headers)
    assert ("videos", "a dead letter of a record that does not exist") in kinds(recount_and_compare(settings))


def test_what_retention_removed_is_judged_by_the_lake(fresh: Settings):
    settings, bootstrap = fresh, fresh.kafka_bootstrap
    first = mixed(3, 800)
    produce(bootstrap, first)
    ingest(settings)
    with TopicLog(bootstrap) as log:
        extents = {name: log.extent(name) for name in TOPIC_NAMES}
    halves = {(name, part): end // 2 for name, extent in extents.items() for part, (_, end) in extent.items()}
    remove_until(bootstrap, halves)
    # Duplicates of what is gone, and new events.
    produce(bootstrap, [*first[-40:], *mixed(4, 300)])
    ingest(settings)
    report = recount_and_compare(settings)
    assert report.problems == []
    assert sum(line.removed for line in report.topics) > 300
    for line in report.topics:
        assert line.acknowledged == line.counted + line.late + line.dead_lettered + line.duplicates


def test_the_ledger_holds_beside_running_ingestion(fresh: Settings):
    settings, stop = fresh, threading.Event()
    produce(settings.kafka_bootstrap, mixed(5, 400))
    ingest(settings)

    def traffic() -> None:
        seed = 100
        while not stop.is_set():
            produce(settings.kafka_bootstrap, mixed(seed, 150))
            ingest(settings)
            seed += 1

    running = threading.Thread(target=traffic)
    running.start()
    try:
        for _ in range(3):
            assert recount_and_compare(settings).problems == []
    finally:
        stop.set()
        running.join()
    assert recount_and_compare(settings).problems == []


def test_the_command_prints_the_ledger_and_fails_on_a_difference(system: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(system.state_dir))
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(system.port_offset))
    runner = CliRunner()
    held = runner.invoke(app, ["verify"])
    assert held.exit_code == 0, held.output
    assert "nothing lost, nothing double" in held.output
    name = delete_row(system)
    failed = runner.invoke(app, ["verify", "--json"])
    assert failed.exit_code == 1
    report = msgspec.json.decode(failed.stdout, type=LedgerReport)
    assert report.lost == 1
    assert name in report.problems[0].examples[0]
    failed = runner.invoke(app, ["verify"])
    assert failed.exit_code == 1
    assert name in failed.output
    assert "next: make clean" in failed.output


def test_without_a_broker_or_a_state_the_next_command_is_named(settings: Settings, whole: Settings, tmp_path: Path):
    alone = settings.model_copy(update={"port_offset": free_port_offset()})  # the test run's own broker may be up
    with pytest.raises(ServiceError, match="no Kafka broker answers") as error:
        recount_and_compare(alone)
    assert error.value.next_command == "make up"
    with pytest.raises(StateError, match="no stream state"):
        recount_and_compare(whole.model_copy(update={"state_dir": tmp_path}))


def test_the_examples_of_many_differences_are_bounded_and_their_number_is_told(system: Settings):
    table_of(system, "watches").delete("kafka_offset >= 0")
    report = recount_and_compare(system)
    (found,) = (each for each in report.problems if each.where == "watches")
    assert found.count == report.lost > len(found.examples) == 20
    assert f"({found.count:,} in all)" in found.for_person()
