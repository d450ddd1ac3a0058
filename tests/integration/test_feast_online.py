"""The online store: guarded by event time, readable beside a writer, and Feast's own API on the same bytes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference_system.errors import StateError
from reference_system.event_time import micros, moment_of
from reference_system.features.feast import store as feast_store
from reference_system.features.feast.feature_tables import write_snapshot
from reference_system.features.feast.objects import join_key, state_name
from reference_system.paths import StatePaths
from reference_system.use_cases import VIEWS
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.features import NEWEST_VIDEOS
from reference_system.windows import EVERYONE

NOON = micros(datetime(2025, 3, 3, 12, tzinfo=UTC))
SECOND = 1_000_000
REPO = Path(feast_store.__file__).parent / "repo"


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> StatePaths:
    return StatePaths(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def store(paths):
    store = feast_store.open_store(paths)
    feast_store.apply(store)
    return store


def write(store, *rows, view=CUSTOMER_ACTIVITY, sequence=0):
    feast_store.write_states(store, view, [(key, time, sequence, state) for key, time, state in rows])


def read(store, key, view=CUSTOMER_ACTIVITY):
    (found,) = feast_store.read_states(store, view, [key])
    return found


def materialize_snapshot(store, paths, view, rows, as_of=NOON + 3600 * SECOND):
    moment = datetime.fromtimestamp(as_of / SECOND, UTC)
    for each in VIEWS:
        of_view = rows if each is view else []
        write_snapshot(paths.feature_tables / state_name(each), join_key(each), of_view, moment)
    feast_store.materialize(store, moment - timedelta(days=100), moment)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_gives_back_what_was_written(store, view):
    write(store, ("key-1", NOON, b"one"), ("key-2", NOON + 1, b"two"), view=view)
    found = feast_store.read_states(store, view, ["key-2", "nobody", "key-1", "key-2"])
    assert found == [(b"two", NOON + 1), (None, None), (b"one", NOON), (b"two", NOON + 1)]


def test_a_damaged_registry_is_named_with_what_mends_it(store, tmp_path):
    paths = StatePaths(tmp_path / "a state")
    paths.feast_registry.parent.mkdir(parents=True)
    whole = Path(store.config.registry.path).read_bytes()
    paths.feast_registry.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(StateError, match="is damaged") as caught:
        feast_store.open_store(paths)

    assert caught.value.next_command == f"make down && rm '{paths.feast_registry}' && make up"


def test_no_keys_find_nothing(store):
    assert feast_store.read_states(store, CUSTOMER_ACTIVITY, []) == []


def test_more_keys_than_one_statement_takes_are_read(store):
    rows = [(f"many-{number}", NOON + number, b"%d" % number) for number in range(2_500)]
    write(store, *rows)
    found = feast_store.read_states(store, CUSTOMER_ACTIVITY, [key for key, _, _ in rows])
    assert found == [(state, time) for _, time, state in rows]


def test_views_of_one_entity_key_do_not_meet(store):
    write(store, ("same", NOON, b"customer"))
    write(store, ("same", NOON, b"terminal"), view=TERMINAL_RISK)
    assert read(store, "same") == (b"customer", NOON)
    assert read(store, "same", TERMINAL_RISK) == (b"terminal", NOON)


@pytest.mark.parametrize("view", [CUSTOMER_ACTIVITY, TERMINAL_RISK], ids=lambda view: view.name)
def test_a_view_for_each_key_reads_one_state_of_each(store, view):
    write(store, ("of-each", NOON, b"state"), view=view)
    views = (CUSTOMER_ACTIVITY, TERMINAL_RISK)
    expected = [(b"state", NOON) if each is view else (None, None) for each in views]
    assert (
        feast_store.read_states(store, views, ["of-each" if each is view else "nobody" for each in views]) == expected
    )


def test_a_view_for_each_key_needs_as_many_keys(store):
    with pytest.raises(ValueError, match="zip"):
        feast_store.read_states(store, (CUSTOMER_ACTIVITY, TERMINAL_RISK), ["one"])


@pytest.mark.parametrize("earlier", [1, SECOND, 3600 * SECOND])
def test_an_older_state_never_replaces_a_newer_one(store, earlier):
    key = f"guard-{earlier}"
    write(store, (key, NOON, b"new"))
    write(store, (key, NOON - earlier, b"old"))
    assert read(store, key) == (b"new", NOON)


def test_a_state_a_microsecond_newer_replaces(store):
    write(store, ("micro", NOON, b"old"))
    write(store, ("micro", NOON + 1, b"new"))
    assert read(store, "micro") == (b"new", NOON + 1)


def test_of_two_states_of_the_same_time_the_later_of_the_stream_stays_because_a_late_label_does_not_move_it(store):
    write(store, ("tie", NOON, b"before the label"), sequence=7)
    write(store, ("tie", NOON, b"after the label"), sequence=8)
    write(store, ("tie", NOON, b"before the label"), sequence=7)
    assert read(store, "tie") == (b"after the label", NOON)


def test_the_newest_of_several_states_in_one_batch_wins(store):
    write(store, ("batch", NOON, b"1"), ("batch", NOON + 2, b"3"), ("batch", NOON + 1, b"2"))
    assert read(store, "batch") == (b"3", NOON + 2)


numbered = st.integers(0, 10**9)
one_setting = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@one_setting
@given(times=st.lists(st.integers(-3, 3), min_size=1, max_size=8), number=numbered)
def test_whatever_the_order_of_writes_the_newest_stays(store, times, number):
    key = f"order-{number}"
    start, _ = read(store, key)
    for position, time in enumerate(times):
        write(store, (key, NOON + time, str(position).encode()), sequence=position)
    if start is None:
        newest = max(times)
        last = max(position for position, time in enumerate(times) if time == newest)
        assert read(store, key) == (str(last).encode(), NOON + newest)


def test_a_materialized_state_fills_what_is_missing_and_replaces_what_is_older(store, paths):
    write(store, ("m-old", NOON - 5, b"stream"))
    materialize_snapshot(store, paths, CUSTOMER_ACTIVITY, [("m-new", NOON, b"lake"), ("m-old", NOON, b"lake")])
    assert read(store, "m-new") == (b"lake", NOON)
    assert read(store, "m-old") == (b"lake", NOON)


def test_a_materialized_state_replaces_no_newer_and_no_equal_state_of_the_stream(store, paths):
    write(store, ("m-newer", NOON + 1, b"stream"), ("m-equal", NOON, b"stream"))
    materialize_snapshot(store, paths, CUSTOMER_ACTIVITY, [("m-newer", NOON, b"lake"), ("m-equal", NOON, b"lake")])
    assert read(store, "m-newer") == (b"stream", NOON + 1)
    assert read(store, "m-equal") == (b"stream", NOON)


def test_the_stream_replaces_a_materialized_state_of_the_same_time(store, paths):
    materialize_snapshot(store, paths, CUSTOMER_ACTIVITY, [("m-first", NOON, b"lake")])
    write(store, ("m-first", NOON, b"stream"))
    assert read(store, "m-first") == (b"stream", NOON)


def test_a_second_materialization_replaces_the_first(store, paths):
    materialize_snapshot(store, paths, CUSTOMER_ACTIVITY, [("m-twice", NOON, b"first")])
    materialize_snapshot(store, paths, CUSTOMER_ACTIVITY, [("m-twice", NOON, b"second")])
    assert read(store, "m-twice") == (b"second", NOON)


def test_the_sdk_reads_what_was_written(store):
    write(store, ("sdk", NOON, b"\x00\xff state"))
    write(store, (EVERYONE, NOON, b"list"), view=NEWEST_VIDEOS)
    answer = store.get_online_features(
        features=["customer_activity_state:state", "newest_videos_state:state"],
        entity_rows=[{"customer_id": "sdk", "everyone": EVERYONE}, {"customer_id": "nobody", "everyone": EVERYONE}],
        full_feature_names=True,
    ).to_dict()
    assert answer["customer_activity_state__state"] == [b"\x00\xff state", None]
    assert answer["newest_videos_state__state"] == [b"list", b"list"]


def test_a_push_through_the_sdk_is_guarded_too(store):
    write(store, ("push", NOON, b"new"))
    moments = [datetime.fromtimestamp((NOON + delta) / SECOND, UTC) for delta in (-SECOND, SECOND)]
    for state, moment, expected in ((b"old", moments[0], b"new"), (b"newer", moments[1], b"newer")):
        frame = pd.DataFrame(
            {"customer_id": ["push"], "state": [state], "event_timestamp": [moment], "created_timestamp": [moment]}
        )
        store.push("customer_activity_state_push", frame)
        assert read(store, "push")[0] == expected


@pytest.mark.parametrize("created", [None, NOON + SECOND], ids=["without created time", "with created time"])
def test_what_comes_without_a_sequence_replaces_nothing_that_the_stream_wrote_for_the_moment(store, created):
    key = f"api-{created}"
    write(store, (key, NOON, b"stream"))
    entity = EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=key)])
    for delta, expected in ((-1, b"stream"), (0, b"stream"), (1, b"api")):
        row = (entity, {"state": Value(bytes_val=b"api")}, moment_of(NOON + delta), created and moment_of(created))
        online = store._get_provider().online_store
        online.online_write_batch(store.config, store.get_feature_view("customer_activity_state"), [row], None)
        assert read(store, key)[0] == expected


def test_a_database_of_an_earlier_form_is_made_anew_by_the_next_apply(tmp_path):
    paths = StatePaths(tmp_path)
    paths.online_store.parent.mkdir(parents=True)
    with closing(sqlite3.connect(paths.online_store)) as connection:
        connection.execute(
            "CREATE TABLE workbook_customer_activity_state (entity_key BLOB, feature_name TEXT, value BLOB, "
            "event_ts timestamp, created_ts timestamp, PRIMARY KEY(entity_key, feature_name))"
        )
    store = feast_store.open_store(paths)
    feast_store.apply(store)
    write(store, ("c1", NOON, b"state"))
    assert read(store, "c1") == (b"state", NOON)


def test_a_service_names_the_states_of_its_use_case(store):
    views = store.get_feature_service("fraud_v1_online").feature_view_projections
    assert [view.name for view in views] == ["customer_activity_state", "terminal_risk_state"]


def test_the_fast_key_is_the_key_that_feast_writes(store):
    key = "c-äöü-1"
    entity = EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=key)])
    encoded = key.encode()
    _, prefix = feast_store._state_table(store, "customer_activity_state")
    fast = prefix + len(encoded).to_bytes(4, "little") + encoded
    assert fast == serialize_entity_key(entity, entity_key_serialization_version=3)


def test_a_reader_is_not_held_up_by_a_write_in_progress(store, paths):
    write(store, ("held", NOON, b"before"))
    with closing(sqlite3.connect(paths.online_store, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE workbook_customer_activity_state SET value = x''")
        reader = feast_store.open_store(paths)
        assert feast_store.read_states(reader, CUSTOMER_ACTIVITY, ["held"]) == [(b"before", NOON)]
        writer.execute("ROLLBACK")


def test_a_write_sees_nothing_of_a_batch_that_failed(store):
    write(store, ("atomic", NOON, b"before"))
    broken = [("atomic", NOON + 1, b"half"), ("atomic", 10**30, b"beyond any integer that SQLite holds")]
    with pytest.raises(OverflowError):
        write(store, *broken)
    assert read(store, "atomic") == (b"before", NOON)
    write(store, ("atomic", NOON + 1, b"after"))
    assert read(store, "atomic") == (b"after", NOON + 1)


def test_applying_again_keeps_what_is_stored(store, paths):
    write(store, ("kept", NOON, b"state"))
    again = feast_store.open_store(paths)
    feast_store.apply(again)
    assert read(again, "kept") == (b"state", NOON)


def test_the_feast_command_applies_the_same_definitions(tmp_path, store, monkeypatch):
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path))
    feast = Path(sys.executable).with_name("feast")
    subprocess.run([feast, "-c", str(REPO), "apply"], capture_output=True, check=True, timeout=120, cwd=tmp_path)
    of_command = feast_store.open_store(StatePaths(tmp_path))

    def names(of):
        listed = (of.list_entities(), of.list_feature_views(), of.list_feature_services(), of.list_data_sources())
        return [sorted(each.name for each in objects) for objects in listed]

    assert names(of_command) == names(store)
    write(of_command, ("command", NOON, b"state"))
    assert read(of_command, "command") == (b"state", NOON)
