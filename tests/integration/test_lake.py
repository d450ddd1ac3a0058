"""The lake: atomic commits that know their offsets, reads by event time, compaction beside the stream."""

from __future__ import annotations

import json
import multiprocessing
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from sample_events import example

from reference_system.errors import StateError
from reference_system.events import PREDICTIONS, PredictionLogged
from reference_system.lake import delta_lake, delta_upkeep
from reference_system.use_cases import TOPICS
from reference_system.use_cases.fraud.events import REVERSALS, TRANSACTIONS, ChargebackReversed, Transaction
from reference_system.use_cases.recommendation.events import IMPRESSIONS, PageShown

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
HOUR = timedelta(hours=1)


def payment(number: int, moment: datetime = MONDAY) -> Transaction:
    return Transaction(
        schema_version=1,
        event_timestamp=moment,
        transaction_id=f"t{number}",
        customer_id="c1",
        terminal_id="m1",
        amount=1.5,
    )


def rows(numbers: range, partition: int = 0) -> pa.Table:
    events = [payment(number, MONDAY + number * HOUR) for number in numbers]
    return delta_lake.to_table(TRANSACTIONS, events, [partition] * len(events), numbers)


def ids(lake: Path, **span: datetime) -> list[str]:
    table = delta_lake.read(lake, TRANSACTIONS, columns=["transaction_id"], **span).read_all()
    return sorted(table["transaction_id"].to_pylist(), key=lambda text: int(text[1:]))


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_every_topic_has_a_column_for_each_field_and_its_origin(topic):
    names = delta_lake.arrow_schema(topic).names
    assert names == [*topic.record.__struct_fields__, "event_day", "kafka_partition", "kafka_offset", "late"]


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_topic_without_a_table_reads_as_an_empty_one(tmp_path, topic):
    table = delta_lake.read(tmp_path, topic).read_all()
    assert table.num_rows == 0
    assert table.schema == delta_lake.arrow_schema(topic)
    assert delta_lake.committed_offsets(tmp_path, topic) == {}


def test_an_event_comes_back_as_it_was(tmp_path):
    shown = PageShown(
        schema_version=1,
        event_timestamp=MONDAY + timedelta(microseconds=123_456),
        impression_id="i1",
        session_id="s1",
        viewer_id="u1",
        video_ids=["v1", "v2"],
        propensities=[0.25, 0.75],
        policy="random",
    )
    delta_lake.append(tmp_path, IMPRESSIONS, delta_lake.to_table(IMPRESSIONS, [shown], [3], [7]), versions={3: 7})
    (row,) = delta_lake.read(tmp_path, IMPRESSIONS).read_all().to_pylist()
    origin = {name: row.pop(name) for name in ("event_day", "kafka_partition", "kafka_offset", "late")}
    assert PageShown(**row) == shown
    assert origin == {"event_day": "2025-03-03", "kafka_partition": 3, "kafka_offset": 7, "late": False}


def test_a_commit_may_move_a_partition_that_has_no_rows(tmp_path):
    nothing = delta_lake.to_table(TRANSACTIONS, [], [], [])
    delta_lake.append(tmp_path, TRANSACTIONS, nothing, versions={0: 4})
    payment = delta_lake.to_table(TRANSACTIONS, [example("transactions")], [1], [2])
    delta_lake.append(tmp_path, TRANSACTIONS, payment, versions={0: 5, 1: 2})
    assert delta_lake.committed_offsets(tmp_path, TRANSACTIONS) == {0: 5, 1: 2}


def test_late_events_are_facts_that_windows_can_leave_out(tmp_path):
    payments = [example("transactions", transaction_id=name) for name in ("x1", "x2")]
    table = delta_lake.to_table(TRANSACTIONS, payments, [0, 0], [0, 1], [False, True])
    delta_lake.append(tmp_path, TRANSACTIONS, table, versions={0: 1})
    columns = ["transaction_id"]
    everything = delta_lake.read(tmp_path, TRANSACTIONS, columns=columns).read_all()
    counted = delta_lake.read(tmp_path, TRANSACTIONS, columns=columns, counted_only=True).read_all()
    assert sorted(everything["transaction_id"].to_pylist()) == ["x1", "x2"]
    assert counted["transaction_id"].to_pylist() == ["x1"]


def test_a_prediction_without_a_feature_age_comes_back_without_one(tmp_path):
    logged = PredictionLogged(
        schema_version=1,
        event_timestamp=MONDAY,
        created_timestamp=MONDAY,
        prediction_id="p1",
        use_case="fraud",
        request_id="t1",
        entity_id="c1",
        model_version="1",
        items=[],
        scores=[0.5],
        decision="approve",
        reasons=[],
        features=[1.0, 2.0],
        entity_keys=["c1", "t1"],
        state_micros=[1_740_000_000_000_000, None],
        catalogue_timestamp=None,
        feature_age_seconds=None,
        degraded=False,
        latency_ms=1.0,
    )
    delta_lake.append(tmp_path, PREDICTIONS, delta_lake.to_table(PREDICTIONS, [logged], [0], [0]), versions={0: 0})
    columns = list(PredictionLogged.__struct_fields__)
    (row,) = delta_lake.read(tmp_path, PREDICTIONS, columns=columns).read_all().to_pylist()
    assert PredictionLogged(**row) == logged


def test_generated_history_is_written_from_columns_and_has_no_offsets(tmp_path):
    count = 1_000
    times = np.arange(count) * 3_600_000_000 + int(MONDAY.timestamp()) * 1_000_000
    columns = {
        "schema_version": np.ones(count, np.int64),
        "event_timestamp": times,
        "transaction_id": [f"t{number}" for number in range(count)],
        "customer_id": pa.array(["c1"] * count),
        "terminal_id": ["m1"] * count,
        "amount": np.linspace(0.0, 1.0, count),
    }
    delta_lake.append(tmp_path, TRANSACTIONS, delta_lake.history_table(TRANSACTIONS, columns), versions={})
    table = delta_lake.read(tmp_path, TRANSACTIONS).read_all().sort_by("event_timestamp")
    assert table["event_timestamp"].cast(pa.int64()).to_pylist() == times.tolist()
    assert set(table["kafka_offset"].to_pylist()) == {delta_lake.NO_OFFSET}
    assert delta_lake.committed_offsets(tmp_path, TRANSACTIONS) == {}


def test_reads_take_their_start_in_and_leave_their_end_out(tmp_path):
    delta_lake.append(tmp_path, TRANSACTIONS, rows(range(72)), versions={0: 71})
    assert ids(tmp_path, start=MONDAY + 20 * HOUR, end=MONDAY + 50 * HOUR) == [
        f"t{number}" for number in range(20, 50)
    ]
    assert ids(tmp_path, start=MONDAY + 70 * HOUR) == ["t70", "t71"]
    assert ids(tmp_path, end=MONDAY) == []


def test_reads_mean_the_same_moment_in_any_time_zone(tmp_path):
    delta_lake.append(tmp_path, TRANSACTIONS, rows(range(72)), versions={0: 71})
    east = timezone(14 * HOUR)
    span = {"start": (MONDAY + 20 * HOUR).astimezone(east), "end": (MONDAY + 26 * HOUR).astimezone(east)}
    assert ids(tmp_path, **span) == [f"t{number}" for number in range(20, 26)]


def test_only_the_days_asked_for_are_opened(tmp_path):
    delta_lake.append(tmp_path, TRANSACTIONS, rows(range(96)), versions={0: 95})
    for path in (tmp_path / "transactions").glob("event_day=2025-03-0[346]/*.parquet"):
        path.unlink()
    tuesday_to_thursday = {"start": MONDAY + 48 * HOUR, "end": MONDAY + 72 * HOUR - timedelta(microseconds=1)}
    assert ids(tmp_path, **tuesday_to_thursday) == [f"t{number}" for number in range(48, 72)]


def test_what_the_stream_brought_and_the_history_are_read_apart_and_other_files_are_not_opened(tmp_path):
    delta_lake.append(tmp_path, TRANSACTIONS, delta_lake.history_table(TRANSACTIONS, history_of_one()), versions={})
    (history,) = tmp_path.glob("transactions/event_day=*/*.parquet")
    delta_lake.append(tmp_path, TRANSACTIONS, rows(range(3), 2), versions={2: 2})
    (stream,) = {*tmp_path.glob("transactions/event_day=*/*.parquet")} - {history}
    for streamed, found, other in ((True, ["t0", "t1", "t2"], history), (False, ["t1000"], stream)):
        content = other.read_bytes()
        other.unlink()
        table = delta_lake.read(tmp_path, TRANSACTIONS, columns=["transaction_id"], streamed=streamed).read_all()
        assert sorted(table["transaction_id"].to_pylist()) == found
        other.write_bytes(content)


def test_a_commit_carries_the_offsets_of_its_partitions(tmp_path):
    delta_lake.append(tmp_path, TRANSACTIONS, rows(range(5)), versions={0: 4, 3: 17})
    delta_lake.append(tmp_path, TRANSACTIONS, rows(range(5, 9)), versions={0: 8})
    assert delta_lake.committed_offsets(tmp_path, TRANSACTIONS) == {0: 8, 3: 17}


def test_a_commit_that_goes_back_is_refused_and_adds_nothing(tmp_path):
    delta_lake.append(tmp_path, TRANSACTIONS, rows(range(5)), versions={0: 4})
    with pytest.raises(StateError, match="transactions-0 up to 4"):
        delta_lake.append(tmp_path, TRANSACTIONS, rows(range(5)), versions={0: 4})
    assert len(ids(tmp_path)) == 5


def test_offsets_survive_many_commits_checkpoints_and_compaction(tmp_path):
    for number in range(50):
        delta_lake.append(
            tmp_path, TRANSACTIONS, rows(range(number, number + 1), number % 4), versions={number % 4: number}
        )
    expected = {0: 48, 1: 49, 2: 46, 3: 47}
    assert delta_lake.committed_offsets(tmp_path, TRANSACTIONS) == expected
    merged = delta_upkeep.compact(tmp_path, TRANSACTIONS)
    assert merged == 50
    assert delta_lake.committed_offsets(tmp_path, TRANSACTIONS) == expected
    assert len(DeltaTable(tmp_path / "transactions").file_uris()) == 3
    assert ids(tmp_path) == [f"t{number}" for number in range(50)]
    assert delta_upkeep.compact(tmp_path, TRANSACTIONS) == 0


def test_a_reader_that_began_before_a_compaction_finishes(tmp_path):
    for number in range(5):
        delta_lake.append(tmp_path, TRANSACTIONS, rows(range(number, number + 1)), versions={0: number})
    reader = delta_lake.read(tmp_path, TRANSACTIONS)
    delta_upkeep.compact(tmp_path, TRANSACTIONS)
    assert reader.read_all().num_rows == 5


def _write_many(lake: Path, partition: int, commits: int) -> None:
    for number in range(commits):
        numbers = range(number * 3, number * 3 + 3)
        delta_lake.append(lake, TRANSACTIONS, rows(numbers, partition), versions={partition: numbers[-1]})


def test_two_writers_and_a_compaction_at_once_lose_nothing(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_many, args=(tmp_path, partition, 15)) for partition in (0, 1)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        delta_upkeep.compact(tmp_path, TRANSACTIONS)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    table = delta_lake.read(tmp_path, TRANSACTIONS).read_all()
    found = sorted(zip(table["kafka_partition"].to_pylist(), table["kafka_offset"].to_pylist(), strict=True))
    assert found == [(partition, offset) for partition in (0, 1) for offset in range(45)]
    assert delta_lake.committed_offsets(tmp_path, TRANSACTIONS) == {0: 44, 1: 44}


def age(lake: Path, by: timedelta) -> None:
    """Make the table look as if all that was done to it was done so much earlier (real time)."""
    table, millis = lake / "transactions", int(by.total_seconds() * 1_000)
    for checkpoint in [*table.glob("_delta_log/*.checkpoint*"), *table.glob("_delta_log/_last_checkpoint")]:
        checkpoint.unlink()
    for commit in table.glob("_delta_log/*.json"):
        actions = [json.loads(line) for line in commit.read_text().splitlines()]
        for action in actions:
            for kind, name in (("remove", "deletionTimestamp"), ("commitInfo", "timestamp")):
                if kind in action:
                    action[kind][name] -= millis
        commit.write_text("\n".join(map(json.dumps, actions)))
    for file in table.rglob("*"):
        if file.is_file():
            os.utime(file, (file.stat().st_mtime - by.total_seconds(),) * 2)


def on_disk(lake: Path) -> int:
    return len(list(lake.glob("transactions/event_day=*/*.parquet")))


def append_one_by_one(lake: Path, numbers: range) -> None:
    for number in numbers:
        delta_lake.append(lake, TRANSACTIONS, rows(range(number, number + 1)), versions={0: number})


def test_what_compaction_replaced_stays_for_readers_and_goes_after_the_retention(tmp_path):
    append_one_by_one(tmp_path, range(5))
    delta_upkeep.compact(tmp_path, TRANSACTIONS)
    age(tmp_path, delta_lake.RETENTION - timedelta(minutes=1))
    delta_upkeep.compact(tmp_path, TRANSACTIONS)
    assert on_disk(tmp_path) == 6
    age(tmp_path, timedelta(minutes=2))
    delta_upkeep.compact(tmp_path, TRANSACTIONS)
    assert on_disk(tmp_path) == 1
    assert ids(tmp_path) == [f"t{number}" for number in range(5)]


def test_what_compaction_replaced_goes_though_checkpoints_have_forgotten_it(tmp_path):
    append_one_by_one(tmp_path, range(5))
    delta_upkeep.compact(tmp_path, TRANSACTIONS)
    age(tmp_path, delta_lake.RETENTION + timedelta(minutes=1))
    append_one_by_one(tmp_path, range(5, 50))  # two checkpoints, which leave out what was replaced so long ago
    delta_upkeep.compact(tmp_path, TRANSACTIONS)
    live = len(DeltaTable(tmp_path / "transactions").file_uris())
    assert on_disk(tmp_path) == live + 46  # 45 commits and the first compaction's file: within the retention


def test_what_a_killed_writer_left_goes_after_the_retention_but_not_while_a_writer_is_at_work(tmp_path):
    append_one_by_one(tmp_path, range(2))
    left = tmp_path / "transactions" / "event_day=2025-03-03" / "part-00000-left.zstd.parquet"
    left.write_bytes(b"half a file")
    age(tmp_path, delta_lake.RETENTION + timedelta(minutes=1))
    with delta_lake.written(tmp_path, TRANSACTIONS):  # its commit may be about to name the file
        delta_upkeep.compact(tmp_path, TRANSACTIONS)
        assert left.exists()
    delta_upkeep.compact(tmp_path, TRANSACTIONS)
    assert not left.exists()
    assert ids(tmp_path) == ["t0", "t1"]


def test_days_are_dropped_whole_and_leave_their_counts_in_the_table(tmp_path):
    delta_lake.append(tmp_path, TRANSACTIONS, delta_lake.history_table(TRANSACTIONS, history_of_one()), versions={})
    late = [number == 3 for number in range(40)]
    events = [payment(number, MONDAY + number * HOUR) for number in range(40)]
    table = delta_lake.to_table(TRANSACTIONS, events, [number % 2 for number in range(40)], range(40), late)
    delta_lake.append(tmp_path, TRANSACTIONS, table, versions={0: 38, 1: 39})
    assert delta_upkeep.dropped(tmp_path, TRANSACTIONS) == delta_upkeep.Dropped()
    assert delta_upkeep.drop_days(tmp_path, TRANSACTIONS, MONDAY + 24 * HOUR) == 25
    assert ids(tmp_path) == [f"t{number}" for number in range(24, 40)]
    found = delta_upkeep.dropped(tmp_path, TRANSACTIONS)
    assert found.before == MONDAY + 24 * HOUR
    assert found.rows == {(0, False): 12, (1, False): 11, (1, True): 1}
    assert delta_lake.committed_offsets(tmp_path, TRANSACTIONS) == {0: 38, 1: 39}


def told(number: int, paid: datetime, known: datetime) -> ChargebackReversed:
    return ChargebackReversed(
        schema_version=1,
        event_timestamp=paid,
        created_timestamp=known,
        chargeback_id=f"b{number}",
        transaction_id=f"t{number}",
        customer_id="c1",
        terminal_id="m1",
    )


def test_what_was_told_later_of_a_day_stays_until_it_is_as_old(tmp_path):
    day = timedelta(days=1)
    before = MONDAY + 5 * day
    events = [
        told(0, MONDAY, MONDAY + day),
        told(1, MONDAY, before - timedelta(microseconds=1)),
        told(2, MONDAY, before),
        told(3, before, before + day),
        told(4, MONDAY, before + 9 * day),
    ]
    table = delta_lake.to_table(REVERSALS, events, [3] * 5, range(5))
    delta_lake.append(tmp_path, REVERSALS, table, versions={3: 4})

    def left() -> list[str]:
        found = delta_lake.read(tmp_path, REVERSALS, columns=["chargeback_id"]).read_all()
        return sorted(found["chargeback_id"].to_pylist())

    assert delta_upkeep.first_offsets(tmp_path, REVERSALS, before) == {3: 2}
    assert delta_upkeep.first_offsets(tmp_path, REVERSALS, before + 2 * day) == {3: 4}
    assert delta_upkeep.drop_days(tmp_path, REVERSALS, before) == 2
    assert left() == ["b2", "b3", "b4"]
    assert delta_upkeep.drop_days(tmp_path, REVERSALS, before) == 0
    assert delta_upkeep.drop_days(tmp_path, REVERSALS, before + 3 * day) == 2
    assert left() == ["b4"]
    assert delta_upkeep.dropped(tmp_path, REVERSALS).rows == {(3, False): 4}


def history_of_one() -> dict[str, object]:
    row = payment(1_000)
    return {name: [getattr(row, name)] for name in Transaction.__struct_fields__}


def test_what_was_dropped_adds_up_and_survives_compactions_and_checkpoints(tmp_path):
    for day in range(4):
        append_one_by_one(tmp_path, range(day * 24, day * 24 + 12))
        if day > 1:
            assert delta_upkeep.drop_days(tmp_path, TRANSACTIONS, MONDAY + (day - 1) * 24 * HOUR) == 12
        delta_upkeep.compact(tmp_path, TRANSACTIONS)
    found = delta_upkeep.dropped(tmp_path, TRANSACTIONS)
    assert (found.before, found.rows) == (MONDAY + 48 * HOUR, {(0, False): 24})
    assert len(ids(tmp_path)) == 24
    age(tmp_path, delta_lake.RETENTION + timedelta(minutes=1))
    delta_upkeep.compact(tmp_path, TRANSACTIONS)
    assert on_disk(tmp_path) == 2


def test_nothing_is_dropped_while_a_writer_is_at_work(tmp_path):
    append_one_by_one(tmp_path, range(2))
    with delta_lake.written(tmp_path, TRANSACTIONS):
        assert delta_upkeep.drop_days(tmp_path, TRANSACTIONS, MONDAY + 24 * HOUR) == 0
    assert len(ids(tmp_path)) == 2


def test_the_first_offsets_of_a_day_are_those_of_the_rows_that_the_stream_brought(tmp_path):
    delta_lake.append(tmp_path, TRANSACTIONS, delta_lake.history_table(TRANSACTIONS, history_of_one()), versions={})
    delta_lake.append(tmp_path, TRANSACTIONS, rows(range(30), 2), versions={2: 29})
    assert delta_upkeep.first_offsets(tmp_path, TRANSACTIONS, MONDAY + 24 * HOUR) == {2: 24}
    assert delta_upkeep.first_offsets(tmp_path, TRANSACTIONS, MONDAY + 48 * HOUR) == {}
