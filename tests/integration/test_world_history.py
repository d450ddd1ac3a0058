from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from world_weeks import Weeks, four_weeks

from reference_system.clock import read_heartbeat
from reference_system.errors import StateError
from reference_system.event_time import MICROS_PER_DAY, moment_of
from reference_system.events import decode, encode
from reference_system.lake import delta_lake
from reference_system.paths import StatePaths
from reference_system.settings import Settings
from reference_system.use_cases import EVENT_TOPICS, topic_named
from reference_system.use_cases.fraud.events import TRANSACTIONS
from reference_system.world import simulation
from reference_system.world.checkpoint import restore
from reference_system.world.history import MARKER, generate_block, read_marker, write_history
from reference_system.world.records import arrow_columns, index_of, record_fields, records_of
from reference_system.world.simulation import make_world


@pytest.fixture
def weeks() -> Weeks:
    return four_weeks()


def digest(settings: Settings, days: int = 3) -> str:
    """A hash of the bytes of every topic's Arrow table."""
    world = make_world(settings)
    happened = generate_block(world, world.generated + days * MICROS_PER_DAY)
    found = hashlib.sha256()
    for topic, fields in record_fields(happened, world.viewing.catalogue).items():
        sink = pa.BufferOutputStream()
        table = delta_lake.history_table(topic, arrow_columns(fields))
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        found.update(sink.getvalue())
    return found.hexdigest()


def quiet(_line: str) -> None:
    """Progress that nobody reads."""


def rows(settings: Settings) -> dict[str, int]:
    lake = StatePaths(settings.state_dir).lake
    return {
        topic.name: delta_lake.read(lake, topic, columns=["event_timestamp"]).read_all().num_rows
        for topic in EVENT_TOPICS
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose history is in the lake; nobody changes it."""
    state = tmp_path_factory.mktemp("written") / "state"
    settings = Settings(
        _env_file=None, state_dir=state, customers=100, terminals=200, viewers=100, videos=150, history_days=45
    )
    lines: list[str] = []
    write_history(settings, lines.append)
    assert len(lines) == 5  # one a block
    return settings


def test_the_same_seed_gives_the_same_history_byte_for_byte(settings: Settings):
    assert digest(settings) == digest(settings)


def test_another_seed_gives_another_history(settings: Settings):
    assert digest(settings) != digest(settings.model_copy(update={"seed": 8}))


def test_the_history_does_not_depend_on_the_hash_seed_or_the_process(settings: Settings):
    code = (
        "from test_world_history import digest\n"
        "from reference_system.settings import Settings\n"
        "print(digest(Settings(_env_file=None, customers=100, terminals=200, viewers=100, videos=150)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert answer.stdout.strip() == digest(settings)


def test_a_day_does_not_depend_on_how_many_days_are_generated_at_once(settings: Settings):
    one, other = make_world(settings), make_world(settings)
    whole = generate_block(one, one.generated + 4 * MICROS_PER_DAY)
    parts = [generate_block(other, other.generated + MICROS_PER_DAY) for _ in range(4)]
    assert whole.payments.times.tolist() == [time for part in parts for time in part.payments.times.tolist()]
    assert whole.watches.impressions.tolist() == [
        impression for part in parts for impression in part.watches.impressions.tolist()
    ]


def test_ids_are_unique_and_transactions_are_ordered(weeks: Weeks):
    fields = record_fields(weeks.happened, weeks.world.viewing.catalogue)
    for topic, of_topic in fields.items():
        ids = of_topic[topic.event_id]
        assert isinstance(ids, np.ndarray)
        assert len(np.unique(ids)) == len(ids), topic.name
    transactions = fields[TRANSACTIONS]["transaction_id"]
    assert isinstance(transactions, np.ndarray)
    assert (transactions[1:] > transactions[:-1]).all()


def test_entities_have_the_agreed_ids(weeks: Weeks):
    record = records_of(TRANSACTIONS, record_fields(weeks.happened, weeks.world.viewing.catalogue)[TRANSACTIONS])[0]
    customer = int(weeks.happened.payments.customers[0])
    assert record.customer_id == f"c{customer + 1:06d}"
    assert index_of(record.customer_id) == customer
    assert index_of("somebody-else") == -1


def test_every_event_survives_the_strict_decoder(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(simulation, "_MISTAKEN_SHARE", 0.05)  # few people make few mistakes
    world = make_world(settings)
    happened = generate_block(world, world.generated + 14 * MICROS_PER_DAY)
    now = moment_of(world.generated)
    for topic, fields in record_fields(happened, world.viewing.catalogue).items():
        records = records_of(topic, fields)
        assert records, topic.name
        assert all(decode(topic, encode(record), now=now) == record for record in records)


def test_the_lake_holds_the_same_values_as_the_records(settings: Settings):
    world = make_world(settings)
    happened = generate_block(world, world.generated + 2 * MICROS_PER_DAY)
    for topic, fields in record_fields(happened, world.viewing.catalogue).items():
        records = records_of(topic, fields)
        expected = delta_lake.to_table(topic, records, [-1] * len(records), [-1] * len(records))
        assert delta_lake.history_table(topic, arrow_columns(fields)).equals(expected), topic.name


def test_history_fills_the_lake_and_stops_the_clock_at_its_end(written: Settings):
    paths = StatePaths(written.state_dir)
    marker = read_marker(paths.world)
    end = written.history_start + timedelta(days=written.history_days)
    assert marker is not None
    assert rows(written) == marker.rows
    times = delta_lake.read(paths.lake, TRANSACTIONS, columns=["event_timestamp", "kafka_offset"]).read_all()
    assert min(times["event_timestamp"].to_pylist()) >= written.history_start
    assert max(times["event_timestamp"].to_pylist()) < end
    assert set(times["kafka_offset"].to_pylist()) == {-1}
    beat = read_heartbeat(paths.clock)
    assert (beat.event_time, beat.speed) == (end, 0.0)


def test_what_is_known_only_after_the_end_of_history_is_pending_and_not_in_the_lake(written: Settings):
    paths = StatePaths(written.state_dir)
    world, released = restore(paths.world, written)
    end = written.history_start + timedelta(days=written.history_days)
    assert moment_of(released) == end
    pending = world.pending
    for kind in (pending.chargebacks, pending.reversals, pending.requests, pending.watches):
        assert (kind.times >= released).all()
    known = delta_lake.read(paths.lake, topic_named("chargebacks"), columns=["created_timestamp"]).read_all()
    assert max(known["created_timestamp"].to_pylist()) < end


def test_a_second_run_finds_the_history_and_writes_nothing(written: Settings):
    first = read_marker(StatePaths(written.state_dir).world)
    before = sorted(path for path in written.state_dir.rglob("*") if path.is_file())
    lines: list[str] = []
    assert write_history(written, lines.append) == first
    assert len(lines) == 1
    assert "history exists" in lines[0]
    assert sorted(path for path in written.state_dir.rglob("*") if path.is_file()) == before


def test_a_half_written_history_is_made_anew(written: Settings, tmp_path: Path):
    settings = written.model_copy(update={"state_dir": tmp_path / "state"})
    shutil.copytree(written.state_dir, settings.state_dir)
    (StatePaths(settings.state_dir).world / MARKER).unlink()
    again = write_history(settings, quiet).rows
    assert again == rows(written)
    assert rows(settings) == again


def test_a_lake_with_live_events_is_not_touched(settings: Settings):
    paths = StatePaths(settings.state_dir)
    world = make_world(settings)
    happened = generate_block(world, world.generated + MICROS_PER_DAY)
    records = records_of(TRANSACTIONS, record_fields(happened, world.viewing.catalogue)[TRANSACTIONS])[:3]
    live = delta_lake.to_table(TRANSACTIONS, records, [0, 0, 0], [0, 1, 2])
    delta_lake.append(paths.lake, TRANSACTIONS, live, versions={0: 2})
    with pytest.raises(StateError, match="live events \\(transactions\\)"):
        write_history(settings, quiet)
    assert rows(settings)["transactions"] == 3
    assert read_marker(paths.world) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 8}, "seed is 8, was 7"),
        ({"customers": 101}, "customers is 101, was 100"),
        ({"history_days": 46}, "history has 45 days and the settings ask for 46"),
    ],
)
def test_a_history_of_other_settings_is_refused(written: Settings, change: dict[str, int], message: str):
    with pytest.raises(StateError, match=message):
        write_history(written.model_copy(update=change), quiet)


def test_a_damaged_marker_is_named(settings: Settings):
    path = StatePaths(settings.state_dir).world / MARKER
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{")
    with pytest.raises(StateError, match=str(path)):
        write_history(settings, quiet)
