"""The lake's sink: rows and offsets move together, and reading again adds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sample_events import example

from reference_system.errors import StateError
from reference_system.ingestion import delta_sink
from reference_system.ingestion.delta_sink import FLUSH_SECONDS, DeltaSink
from reference_system.lake import delta_lake
from reference_system.use_cases import TOPICS, topic_named


def new_sink(lake: Path, *, now: float = 0.0) -> DeltaSink:
    return DeltaSink(lake, TOPICS, now=now)


def take(sink: DeltaSink, *offsets: int, partition: int = 0, late: Sequence[int] = (), reached: int = -1) -> None:
    """Give the sink a row for each of these offsets, of a batch that ends with the last or with `reached`."""
    events = [example("transactions", transaction_id=f"x{partition}-{offset}") for offset in offsets]
    marks = [offset in late for offset in offsets]
    sink.take("transactions", partition, offsets, events, marks, size=100 * len(offsets))
    sink.reach("transactions", partition, max(reached, *offsets, -1))


def rows(lake: Path) -> list[tuple[str, int, int]]:
    table = delta_lake.read(lake, topic_named("transactions")).read_all()
    names = ("transaction_id", "kafka_partition", "kafka_offset")
    return sorted(zip(*(table[name].to_pylist() for name in names), strict=True))


def test_rows_and_offsets_are_committed_together(tmp_path: Path):
    sink = new_sink(tmp_path)
    take(sink, 0)
    take(sink, 4, partition=2)
    assert sink.next_offsets() == {}
    assert sink.flush("transactions", now=1.0) == 2
    assert sink.next_offsets() == {("transactions", 0): 1, ("transactions", 2): 5}
    assert new_sink(tmp_path).next_offsets() == sink.next_offsets()
    assert rows(tmp_path) == [("x0-0", 0, 0), ("x2-4", 2, 4)]


def test_reading_again_adds_no_row(tmp_path: Path):
    sink = new_sink(tmp_path)
    take(sink, 0, 1, 2)
    sink.flush("transactions", now=1.0)
    for again in (sink, new_sink(tmp_path)):
        take(again, 0, 1)
        take(again, 2)
        assert again.pending() == []
    take(sink, 3)
    sink.flush("transactions", now=2.0)
    assert [row[2] for row in rows(tmp_path)] == [0, 1, 2, 3]


def test_of_a_batch_that_the_lake_has_in_part_the_rest_is_taken(tmp_path: Path):
    sink = new_sink(tmp_path)
    take(sink, 0, 1, 2)
    sink.flush("transactions", now=1.0)
    again = new_sink(tmp_path)
    take(again, 0, 2, 3, 5)
    assert again.flush("transactions", now=2.0) == 2
    assert [row[2] for row in rows(tmp_path)] == [0, 1, 2, 3, 5]


def test_a_row_says_whether_it_came_late(tmp_path: Path):
    sink = new_sink(tmp_path)
    take(sink, 0, 1)
    sink.flush("transactions", now=1.0)
    take(sink, 1, 2, 3, late=[1, 3])
    sink.flush("transactions", now=2.0)
    table = delta_lake.read(tmp_path, topic_named("transactions")).read_all().sort_by("kafka_offset")
    assert table[delta_lake.LATE].to_pylist() == [False, False, False, True]


def test_a_second_writer_of_the_same_offsets_is_refused(tmp_path: Path):
    sink, other = new_sink(tmp_path), new_sink(tmp_path)
    for each in (sink, other):
        take(each, 0)
    sink.flush("transactions", now=1.0)
    with pytest.raises(StateError, match="transactions-0"):
        other.flush("transactions", now=1.0)
    assert len(rows(tmp_path)) == 1


def test_a_second_writer_that_is_further_is_refused_too(tmp_path: Path):
    sink, other = new_sink(tmp_path), new_sink(tmp_path)
    take(sink, 0)
    take(other, 0, 1)
    sink.flush("transactions", now=1.0)
    with pytest.raises(StateError, match="transactions-0"):
        other.flush("transactions", now=1.0)
    assert [row[2] for row in rows(tmp_path)] == [0]


def test_sinks_of_different_partitions_do_not_disturb_each_other(tmp_path: Path):
    sinks = [new_sink(tmp_path) for _ in range(2)]
    for offset in range(3):
        for partition, sink in enumerate(sinks):
            take(sink, offset, partition=partition)
            sink.flush("transactions", now=1.0)
    assert new_sink(tmp_path).next_offsets() == {("transactions", 0): 3, ("transactions", 1): 3}
    assert len(rows(tmp_path)) == 6


def test_an_offset_moves_past_records_that_leave_no_row(tmp_path: Path):
    sink = new_sink(tmp_path)
    take(sink, 0, reached=1)
    sink.reach("watches", 3, 7)
    for topic in sink.pending():
        sink.flush(topic, now=1.0)
    assert new_sink(tmp_path).next_offsets() == {("transactions", 0): 2, ("watches", 3): 8}
    assert len(rows(tmp_path)) == 1


def test_what_was_not_committed_is_asked_for_again(tmp_path: Path):
    sink = new_sink(tmp_path)
    take(sink, 0)
    sink.flush("transactions", now=1.0)
    take(sink, 1)
    assert new_sink(tmp_path).next_offsets() == {("transactions", 0): 1}


def test_a_commit_is_due_after_its_time_and_the_longest_waiting_topic_goes_first(tmp_path: Path):
    sink = new_sink(tmp_path)
    assert sink.due(100.0) is None, "nothing to commit"
    take(sink, 0)
    assert sink.due(FLUSH_SECONDS - 0.1) is None
    assert sink.due(FLUSH_SECONDS) == "transactions"
    sink.flush("transactions", now=FLUSH_SECONDS)
    take(sink, 1)
    sink.reach("watches", 0, 0)
    assert sink.due(2 * FLUSH_SECONDS) == "watches"


@pytest.mark.parametrize("limit", ["FLUSH_ROWS", "FLUSH_BYTES"])
def test_a_full_buffer_is_due_at_once(limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(delta_sink, limit, 2 if limit == "FLUSH_ROWS" else 200)
    sink = new_sink(tmp_path)
    take(sink, 0)
    assert sink.due(0.0) is None
    take(sink, 1)
    assert sink.due(0.0) == "transactions"
