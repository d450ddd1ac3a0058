"""Feature tables: a file a day, replaced whole."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reference_system.event_time import micros
from reference_system.features.feast import feature_tables
from reference_system.features.feast.feature_tables import write_days, write_snapshot

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
DAY = timedelta(days=1)


def table(*moments: datetime) -> pa.Table:
    at = pa.array(list(moments), pa.timestamp("us", tz="UTC"))
    return pa.table({"customer_id": [f"c{n}" for n in range(len(moments))], "event_timestamp": at})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_each_day_with_rows_has_a_file_and_midnight_belongs_to_the_day_it_begins(tmp_path):
    rows = table(MONDAY, MONDAY + DAY - timedelta(microseconds=1), MONDAY + DAY, MONDAY + 3 * DAY)
    assert write_days(tmp_path, rows, MONDAY, MONDAY + 4 * DAY) == 3
    assert names(tmp_path) == ["2025-03-03.parquet", "2025-03-04.parquet", "2025-03-06.parquet"]
    assert pq.read_table(tmp_path / "2025-03-03.parquet").num_rows == 2


def test_times_are_whole_microseconds(tmp_path):
    write_days(tmp_path, table(MONDAY), MONDAY, MONDAY + DAY)
    assert (
        str(pq.read_schema(tmp_path / "2025-03-03.parquet").field("event_timestamp").type) == "timestamp[us, tz=UTC]"
    )


def test_a_day_that_lost_its_rows_loses_its_file(tmp_path):
    write_days(tmp_path, table(MONDAY, MONDAY + DAY), MONDAY, MONDAY + 2 * DAY)
    write_days(tmp_path, table(MONDAY + DAY), MONDAY, MONDAY + 2 * DAY)
    assert names(tmp_path) == ["2025-03-04.parquet"]


def test_days_outside_the_range_stay(tmp_path):
    write_days(tmp_path, table(MONDAY, MONDAY + DAY), MONDAY, MONDAY + 2 * DAY)
    write_days(tmp_path, table(), MONDAY + DAY, MONDAY + 2 * DAY)
    assert names(tmp_path) == ["2025-03-03.parquet"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_days(tmp_path, table(MONDAY), MONDAY, MONDAY + DAY)

    def disk_full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_tables.pq, "write_table", disk_full)
    with pytest.raises(OSError, match="No space"):
        write_days(tmp_path, table(MONDAY, MONDAY), MONDAY, MONDAY + DAY)
    assert names(tmp_path) == ["2025-03-03.parquet"]
    assert pq.read_table(tmp_path / "2025-03-03.parquet").num_rows == 1


def test_a_snapshot_says_when_it_was_taken(tmp_path):
    states = [("c1", micros(MONDAY - DAY), b"one"), ("c2", micros(MONDAY), b"two")]
    assert write_snapshot(tmp_path, "customer_id", states, MONDAY + DAY) == 2
    (row, _) = pq.read_table(tmp_path / "snapshot.parquet").to_pylist()
    assert row == {
        "customer_id": "c1",
        "state": b"one",
        "event_timestamp": MONDAY - DAY,
        "created_timestamp": MONDAY + DAY,
    }


def test_a_snapshot_of_nothing_is_an_empty_table(tmp_path):
    assert write_snapshot(tmp_path, "customer_id", [], MONDAY) == 0
    assert pq.read_table(tmp_path / "snapshot.parquet").num_rows == 0
