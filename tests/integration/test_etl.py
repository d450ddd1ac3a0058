"""The ETL flow: from the lake to feature tables and online states, for any range, any number of times."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from local_broker import free_port_offset
from prefect.testing.utilities import prefect_test_harness
from typer.testing import CliRunner

from reference_system.clock import Heartbeat, wall_seconds, write_heartbeat
from reference_system.commands.loop import etl as etl_command
from reference_system.errors import StateError
from reference_system.features.feast import store as feast_store
from reference_system.features.history.states import states
from reference_system.file_lock import locked
from reference_system.flows.prefect_etl import etl
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.use_cases import VIEWS
from reference_system.use_cases.fraud.events import CHARGEBACKS, TRANSACTIONS, ChargebackReported, Transaction
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.events import VIDEOS, WATCHES, VideoPublished, VideoWatched

START = datetime(2025, 3, 3, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
# 10 real seconds at the default speed: the lake is complete up to here.
SETTLE = 4 * HOUR
PAYMENTS_A_DAY = 24


@pytest.fixture
def paths(tmp_path, monkeypatch) -> StatePaths:
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("WORKBOOK_HISTORY_START", START.isoformat())
    return StatePaths(tmp_path)


def set_clock(paths: StatePaths, moment: datetime) -> None:
    write_heartbeat(paths.clock, Heartbeat(event_time=moment, wall_seconds=wall_seconds(), speed=0.0))


def payment(number: int) -> Transaction:
    return Transaction(
        schema_version=1,
        event_timestamp=START + number * HOUR,
        transaction_id=f"t{number}",
        customer_id=f"c{number % 5}",
        terminal_id=f"m{number % 7}",
        amount=float(number),
    )


def add_days(paths: StatePaths, first: int, days: int) -> None:
    """Events of some days, in commits of one day each, as the stream would leave them."""
    for day in range(first, first + days):
        numbers = range(day * PAYMENTS_A_DAY, (day + 1) * PAYMENTS_A_DAY)
        payments = [payment(number) for number in numbers]
        add(paths, TRANSACTIONS, payments, numbers)
        watches = [
            VideoWatched(
                schema_version=1,
                event_timestamp=each.event_timestamp,
                watch_id=each.transaction_id,
                impression_id="i1",
                viewer_id="u1",
                video_id=f"v{number % 3}",
                category="music",
                position=1,
                watch_seconds=3.0,
                completion=0.5,
            )
            for number, each in zip(numbers, payments, strict=True)
        ]
        add(paths, WATCHES, watches, numbers)
        published = VideoPublished(
            schema_version=1,
            event_timestamp=START + day * DAY,
            video_id=f"v{day}",
            category="music",
            duration_seconds=9.0,
        )
        add(paths, VIDEOS, [published], range(day, day + 1))


def add(paths: StatePaths, topic, events, offsets: range) -> None:
    table = delta_lake.to_table(topic, events, [0] * len(events), offsets)
    delta_lake.append(paths.lake, topic, table, versions={0: offsets[-1]})


def files(paths: StatePaths, view=CUSTOMER_ACTIVITY) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((paths.feature_tables / view.name).glob("*.parquet"))}


def moments(paths: StatePaths) -> list[datetime]:
    table = pq.read_table(paths.feature_tables / CUSTOMER_ACTIVITY.name)
    return sorted(table["event_timestamp"].to_pylist())


def test_the_first_run_computes_all_of_history_and_the_states(paths):
    add_days(paths, 0, 5)
    set_clock(paths, START + 5 * DAY)
    summary = etl.fn()
    settled = START + 5 * DAY - SETTLE
    assert (summary["start"], summary["end"], summary["days"]) == ("2025-03-03T00:00:00Z", "2025-03-07T20:00:00Z", 5)
    assert summary["rows"]["customer_activity"] == 5 * PAYMENTS_A_DAY - 4
    assert summary["states"]["customer_activity"] == 5
    assert moments(paths) == [START + n * HOUR for n in range(5 * PAYMENTS_A_DAY) if START + n * HOUR < settled]
    assert list(files(paths)) == [f"2025-03-0{day}.parquet" for day in range(3, 8)]
    store = feast_store.open_store(paths)
    for view in VIEWS:
        of_lake = list(states(view, paths.lake, START + 5 * DAY))
        found = feast_store.read_states(store, view, [key for key, _, _ in of_lake])
        assert found == [(state, time) for _, time, state in of_lake], view.name


def test_running_again_changes_nothing(paths):
    add_days(paths, 0, 4)
    set_clock(paths, START + 4 * DAY)
    etl.fn()
    before = {view.name: files(paths, view) for view in (CUSTOMER_ACTIVITY, TERMINAL_RISK)}
    etl.fn()
    assert {view.name: files(paths, view) for view in (CUSTOMER_ACTIVITY, TERMINAL_RISK)} == before


def test_the_next_run_begins_a_day_before_the_last_ones_end(paths):
    add_days(paths, 0, 4)
    set_clock(paths, START + 4 * DAY)
    etl.fn()
    add_days(paths, 4, 2)
    set_clock(paths, START + 6 * DAY)
    summary = etl.fn()
    assert (summary["start"], summary["end"]) == ("2025-03-05T00:00:00Z", "2025-03-08T20:00:00Z")
    assert moments(paths) == [START + n * HOUR for n in range(6 * PAYMENTS_A_DAY - 4)]


def test_an_event_that_came_a_day_late_is_in_the_tables_after_the_next_run(paths):
    add_days(paths, 0, 4)
    set_clock(paths, START + 4 * DAY)
    etl.fn()
    late = Transaction(
        schema_version=1,
        event_timestamp=START + 3 * DAY + timedelta(minutes=1),
        transaction_id="late",
        customer_id="c0",
        terminal_id="m0",
        amount=1.0,
    )
    add(paths, TRANSACTIONS, [late], range(1000, 1001))
    set_clock(paths, START + 4 * DAY + 23 * HOUR)
    etl.fn()
    assert late.event_timestamp in moments(paths)


def test_runs_piece_by_piece_give_what_one_run_gives(paths, tmp_path_factory, monkeypatch):
    add_days(paths, 0, 9)
    fraud = ChargebackReported(
        schema_version=1,
        event_timestamp=payment(3).event_timestamp,
        created_timestamp=START + 2 * DAY,
        chargeback_id="b3",
        transaction_id="t3",
        customer_id="c3",
        terminal_id="m3",
    )
    add(paths, CHARGEBACKS, [fraud], range(1))
    for hours in (20, 75, 140, 9 * 24):
        set_clock(paths, START + hours * HOUR)
        etl.fn()
    other = StatePaths(tmp_path_factory.mktemp("once"))
    (other.root / "lake").symlink_to(paths.lake)
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(other.root))
    set_clock(other, START + 9 * DAY)
    etl.fn()
    for view in (CUSTOMER_ACTIVITY, TERMINAL_RISK):
        assert files(paths, view) == files(other, view)
    assert max(pq.read_table(other.feature_tables / "terminal_risk")["terminal_fraud_rate_7d"].to_pylist()) > 0


def test_a_backfill_computes_whole_days_of_its_range_only(paths):
    add_days(paths, 0, 6)
    set_clock(paths, START + 6 * DAY)
    etl.fn()
    before = files(paths)
    for path in (paths.feature_tables / "customer_activity").glob("*.parquet"):
        path.unlink()
    summary = etl.fn(start="2025-03-04T13:00:00", end="2025-03-05T01:00:00")
    assert summary["days"] == 2
    assert files(paths) == {name: data for name, data in before.items() if name[8:10] in ("04", "05")}


def test_a_backfill_of_the_past_does_not_move_the_mark(paths):
    add_days(paths, 0, 6)
    set_clock(paths, START + 6 * DAY)
    etl.fn()
    mark = (paths.feature_tables / "etl.json").read_text()
    etl.fn(start="2025-03-04", end="2025-03-05")
    assert (paths.feature_tables / "etl.json").read_text() == mark


def test_a_range_that_leaves_a_hole_behind_it_does_not_move_the_mark(paths):
    add_days(paths, 0, 6)
    set_clock(paths, START + 6 * DAY)
    etl.fn(start="2025-03-07")
    assert not (paths.feature_tables / "etl.json").exists()
    assert etl.fn()["start"] == "2025-03-03T00:00:00Z"


def test_the_streams_small_files_are_merged(paths):
    add_days(paths, 0, 1)
    more = range(100, 130)
    for number in more:
        add(paths, TRANSACTIONS, [payment(1)], range(number, number + 1))
    set_clock(paths, START + DAY)
    assert etl.fn()["compacted_files"] == len(more) + 1


def test_a_state_of_the_stream_that_is_newer_than_the_lake_stays(paths):
    add_days(paths, 0, 2)
    set_clock(paths, START + 2 * DAY)
    store = feast_store.open_store(paths)
    feast_store.apply(store)
    newer = 2_000_000_000_000_000
    feast_store.write_states(store, CUSTOMER_ACTIVITY, [("c1", newer, 0, b"from the stream")])
    etl.fn()
    assert feast_store.read_states(store, CUSTOMER_ACTIVITY, ["c1"]) == [(b"from the stream", newer)]


def test_two_runs_at_once_wait_for_each_other(paths):
    add_days(paths, 0, 3)
    set_clock(paths, START + 3 * DAY)
    done: list[dict[str, object]] = []
    # Threads of one process open the lock file twice, so they exclude each other as processes do.
    with locked(paths.feature_tables / "etl.lock"):
        runs = [threading.Thread(target=lambda: done.append(etl.fn())) for _ in range(2)]
        for run in runs:
            run.start()
        runs[0].join(timeout=0.5)
        assert done == []
    for run in runs:
        run.join(timeout=120)
    assert len(done) == 2
    assert moments(paths) == [START + n * HOUR for n in range(3 * PAYMENTS_A_DAY - 4)]


def test_a_run_that_was_killed_leaves_no_lock_and_the_next_one_completes(paths):
    add_days(paths, 0, 3)
    set_clock(paths, START + 3 * DAY)
    code = (
        "import os; from reference_system.flows import prefect_etl as flow;"
        "flow.write_snapshot = lambda *_: os.kill(os.getpid(), 9);"
        "flow.etl.fn()"
    )
    killed = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=120)
    assert killed.returncode == -9
    assert not (paths.feature_tables / "etl.json").exists()
    assert etl.fn()["start"] == "2025-03-03T00:00:00Z"
    assert list(paths.root.glob("spill-*")) == []


@pytest.mark.usefixtures("paths")
def test_without_a_clock_the_error_names_the_next_command():
    with pytest.raises(StateError, match="no world has run") as raised:
        etl.fn()
    assert raised.value.next_command == "make up"


def test_a_range_in_the_future_is_refused(paths):
    set_clock(paths, START + 3 * DAY)
    with pytest.raises(StateError, match="nothing to compute from 2026-01-01"):
        etl.fn(start="2026-01-01")


def test_days_whose_windows_are_no_longer_kept_are_not_computed_again(paths, monkeypatch):
    monkeypatch.setenv("WORKBOOK_KEEP_DAYS", "120")
    set_clock(paths, START + 130 * DAY)
    with pytest.raises(StateError, match="the lake keeps events from 2025-03-13 on") as raised:
        etl.fn(start="2025-04-18", end="2025-04-19")
    assert "2025-04-18 would lack a part of their windows, which reach back 37 days" in str(raised.value)


def test_without_a_broker_nothing_is_dropped_and_the_run_goes_on(paths, monkeypatch):
    monkeypatch.setenv("WORKBOOK_KEEP_DAYS", "120")
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(free_port_offset()))
    add_days(paths, 0, 2)
    add_days(paths, 128, 2)
    set_clock(paths, START + 130 * DAY)
    summary = etl.fn(start="2025-07-09")
    assert summary["dropped_rows"] == 0
    assert summary["rows"]["customer_activity"] == 2 * PAYMENTS_A_DAY - 4
    assert delta_lake.read(paths.lake, TRANSACTIONS, end=START + 2 * DAY).read_all().num_rows == 2 * PAYMENTS_A_DAY


def test_the_command_prints_a_summary_as_json(paths):
    add_days(paths, 0, 2)
    set_clock(paths, START + 2 * DAY)
    result = CliRunner().invoke(etl_command.app, ["--from", "2025-03-03", "--to", "2025-03-04", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"]["customer_activity"] == PAYMENTS_A_DAY


def test_the_command_says_what_it_does(paths):
    add_days(paths, 0, 2)
    set_clock(paths, START + 2 * DAY)
    result = CliRunner().invoke(etl_command.app, [])
    assert result.exit_code == 0, result.output
    assert "customer_activity: 44 rows from 2025-03-03" in result.stderr
    assert "ETL done: 2 days up to 2025-03-04T20:00:00Z" in result.stdout


def test_prefect_sees_the_run_and_its_tasks(paths):
    add_days(paths, 0, 2)
    set_clock(paths, START + 2 * DAY)
    with prefect_test_harness(server_startup_timeout=120):
        state = etl(return_state=True)
        assert state.is_completed()
        assert state.result()["rows"]["customer_activity"] == 2 * PAYMENTS_A_DAY - 4
    assert Path(paths.feature_tables / "etl.json").exists()
