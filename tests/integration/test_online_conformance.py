"""What an online store must hold for a stream beside batches: the same tests over ours, Feast's SQLite, and Redis.

A store that cannot hold a promise carries a strict marker with the reason from its source: the day it can, the test
fails and the marker goes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest
from feast.protos.feast.types.Value_pb2 import Null, Value
from online_stores import KINDS, NOON, Online, key_of, numbers, open_online, redis_server, states

# Ibis calls DuckDB by a name that DuckDB would like to be called no more.
pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

MICRO = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)

OVERWRITES = "its upsert has no condition: the last write wins, whatever its event time"
SECONDS = "a datetime goes through an adapter that keeps whole seconds"
DROPS_TIES = "`new_total_nanos <= latest_seen_nanos`: a value of the same instant is taken for one that it has"
LOCKS = "rollback-journal mode: a reader waits while a writer commits"
WHOLE_FILE = "teardown unlinks the database, whatever views it was asked to remove"
WHOLE_ENTITY = "teardown deletes the entity's hash, in which the values of all views lie"


@pytest.fixture(scope="module")
def redis(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


def opened(kind: str, folder, request) -> Online:
    online = open_online(kind, folder, request.getfixturevalue("redis") if kind == "redis" else None)
    online.apply(numbers(folder), states(folder))
    return online


@pytest.fixture(scope="module")
def _stores(tmp_path_factory, request) -> Callable[[str], Online]:
    found: dict[str, Online] = {}

    def store(kind: str) -> Online:
        if kind not in found:
            found[kind] = opened(kind, tmp_path_factory.mktemp(f"shared_{kind}"), request)
        return found[kind]

    return store


@pytest.fixture
def online(request, _stores) -> Online:
    """A store that the tests of this module share: each has keys of its own."""
    return _stores(request.param)


@pytest.fixture
def own_online(request, tmp_path_factory) -> Online:
    """A store of the test's own."""
    return opened(request.param, tmp_path_factory.mktemp(f"own_{request.param}"), request)


def cannot(reason: str) -> pytest.MarkDecorator:
    """A promise that the store's source does not keep; any other error is one of the test."""
    return pytest.mark.xfail(
        reason=reason, strict=True, raises=(AssertionError, NotImplementedError, sqlite3.OperationalError)
    )


def over(fixture: str, **broken: str) -> Any:
    """The test over every store; `broken` gives the reason why one cannot hold the promise."""
    return pytest.mark.parametrize(
        fixture,
        [pytest.param(kind, marks=cannot(broken[kind]) if kind in broken else ()) for kind in KINDS],
        indirect=True,
    )


def values_of_all_types() -> dict[str, Value]:
    """A value of every kind that Feast's `Value` knows, by the name of its field."""
    samples: dict[str, Any] = {
        "string_val": "ä\x00",
        "bytes_val": b"\x00\xff",
        "bool_val": False,
        "null_val": Null.NULL,
    }
    found = {}
    for field in Value.DESCRIPTOR.fields:
        value = Value()
        if field.message_type is None:
            plain = "1.5" if field.cpp_type == field.CPPTYPE_STRING else 1
            setattr(value, field.name, samples.get(field.name, plain))
        else:
            inner = getattr(value, field.name)
            inner.SetInParent()
            for part in inner.DESCRIPTOR.fields:
                if part.is_repeated and part.message_type is None:
                    text = {part.CPPTYPE_STRING: b"x" if part.type == part.TYPE_BYTES else "x"}
                    getattr(inner, part.name).extend([text.get(part.cpp_type, 1)] * 2)
        found[field.name] = value
    return found


@over("online")
def test_a_value_of_every_type_comes_back_as_it_was(online):
    for name, value in values_of_all_types().items():
        online.write(f"type-{name}", {"left": value, "right": Value(int64_val=1)})
        ((_, found),) = online.read(f"type-{name}")
        assert found == {"left": value, "right": Value(int64_val=1)}, name


@over("online")
@pytest.mark.parametrize("state", [b"", b"\x00", bytes(range(256)) * 8], ids=["empty", "zero", "2 KiB"])
def test_bytes_come_back_as_they_were(online, state):
    online.write(f"bytes-{len(state)}", {"state": Value(bytes_val=state)}, of=online.states)
    ((moment, found),) = online.read(f"bytes-{len(state)}", of=online.states)
    assert (moment, found) == (NOON, {"state": Value(bytes_val=state)})


@over("online")
def test_an_entity_that_is_missing_has_no_values(online):
    online.write("there", 1)
    answers = [values for _, values in online.read("missing", "there")]
    assert not any(value.WhichOneof("val") for value in (answers[0] or {}).values())
    assert answers[1]["left"] == Value(int64_val=1)


@over("online")
def test_answers_come_in_the_order_of_the_keys_and_repeat_with_them(online):
    for key, number in (("order-b", 2), ("order-a", 1), ("order-c", 3)):
        online.write(key, number)
    keys = ("order-c", "order-a", "nobody", "order-b", "order-a")
    found = [(values or {}).get("left", Value()).int64_val for _, values in online.read(*keys)]
    assert found == [3, 1, 0, 2, 1]


@over("online")
def test_thousands_of_keys_are_read_at_once(online):
    keys = [f"many-{number}" for number in range(2_500)]
    rows = [
        (key_of(key), {"left": Value(int64_val=place), "right": Value(int64_val=place)}, NOON, None)
        for place, key in enumerate(keys)
    ]
    online.store.online_write_batch(online.feast.config, online.numbers, rows, None)
    found = [values["left"].int64_val for _, values in online.read(*keys)]
    assert found == list(range(2_500))


@over("online")
def test_keys_of_any_text_do_not_meet(online):
    keys = ["text-ä", "text-a\u0308", "text-", "text- ", "text-\x00", "text-'\";--", "text-" + "x" * 1_000]
    for number, key in enumerate(keys):
        online.write(key, number)
    assert [online.number(key) for key in keys] == list(range(len(keys)))


@over("online", sqlite=OVERWRITES)
@pytest.mark.parametrize("earlier", [MICRO, SECOND, timedelta(days=1)], ids=["1 µs", "1 s", "1 day"])
def test_an_older_push_does_not_replace_a_newer_value(online, earlier):
    online.write(f"older-{earlier}", 2)
    online.write(f"older-{earlier}", 1, NOON - earlier)
    assert online.number(f"older-{earlier}") == 2


@over("online")
def test_a_push_a_microsecond_newer_replaces(online):
    online.write("newer", 1)
    online.write("newer", 2, NOON + MICRO)
    assert online.number("newer") == 2


@over("online", redis=DROPS_TIES)
def test_of_two_pushes_of_the_same_moment_the_later_stays_because_a_late_label_moves_no_time(online):
    online.write("tie", 1)
    online.write("tie", 2)
    assert online.number("tie") == 2


@over("online", sqlite=OVERWRITES)
def test_the_newest_of_a_batch_stays_whatever_its_place(online):
    rows = [
        (key_of("batch"), {name: Value(int64_val=number) for name in ("left", "right")}, NOON + number * SECOND, None)
        for number in (1, 3, 2)
    ]
    online.store.online_write_batch(online.feast.config, online.numbers, rows, None)
    assert online.number("batch") == 3


@over("online", sqlite=OVERWRITES)
def test_a_replay_never_shows_an_older_value(online):
    pushes = [(number, NOON + number * SECOND) for number in range(5)]
    for number, moment in pushes:
        online.write("replay", number, moment)
    for number, moment in pushes:
        online.write("replay", number, moment)
        assert online.number("replay") == 4


@over("online", sqlite=SECONDS)
@pytest.mark.parametrize("micro", [1, 123_457, 999_999])
def test_event_times_keep_their_microseconds(online, micro):
    online.write(f"micro-{micro}", 1, NOON + micro * MICRO)
    ((moment, _),) = online.read(f"micro-{micro}")
    assert moment == NOON + micro * MICRO


@over("online")
def test_a_time_without_a_zone_is_utc(online):
    online.write("naive", 1, NOON.replace(tzinfo=None))
    ((moment, _),) = online.read("naive")
    assert moment == NOON


@over("online")
def test_a_null_replaces_a_value_and_is_no_value(online):
    online.write("null", 1)
    online.write("null", {"left": Value(), "right": Value(int64_val=2)}, NOON + SECOND)
    ((_, found),) = online.read("null")
    assert found == {"left": Value(), "right": Value(int64_val=2)}


@over("online")
def test_null_bytes_are_no_empty_bytes(online):
    online.write("null-state", {"state": Value()}, of=online.states)
    ((_, found),) = online.read("null-state", of=online.states)
    assert found == {"state": Value()}


@over("online")
def test_the_sdk_pushes_and_reads(online):
    rows = {"customer_id": ["sdk-1", "sdk-2"], "left": [1, None], "right": [3, 4]}
    rows |= {"event_timestamp": [NOON, NOON], "created_timestamp": [NOON, NOON]}
    online.feast.push("numbers_push", pd.DataFrame(rows).astype({"left": "Int64"}))
    answer = online.feast.get_online_features(
        features=["numbers:left", "numbers:right"],
        entity_rows=[{"customer_id": key} for key in ("sdk-2", "nobody", "sdk-1")],
    ).to_dict()
    assert answer["left"] == [None, None, 1]
    assert answer["right"] == [4, None, 3]


@over("online", sqlite="it has no asynchronous methods")
def test_the_sdk_reads_asynchronously(online):
    online.write("async", 1)
    answer = asyncio.run(
        online.feast.get_online_features_async(features=["numbers:left"], entity_rows=[{"customer_id": "async"}])
    )
    assert answer.to_dict()["left"] == [1]


@over("online")
def test_a_push_that_lacks_a_feature_is_refused_and_changes_nothing(online):
    online.write("partial", 1)
    later = [NOON + SECOND]
    lacking = pd.DataFrame(
        {"customer_id": ["partial"], "left": [2], "event_timestamp": later, "created_timestamp": later}
    )
    with pytest.raises((KeyError, ValueError)):
        online.feast.push("numbers_push", lacking)
    assert online.number("partial") == 1


@over("online")
def test_a_materialization_fills_what_is_missing_and_replaces_what_is_older(online):
    online.write("m-older", 1, NOON - SECOND)
    online.materialize([("m-missing", 5, NOON), ("m-older", 5, NOON)])
    assert (online.number("m-missing"), online.number("m-older")) == (5, 5)


@over("online", sqlite=OVERWRITES)
def test_a_materialization_replaces_nothing_newer_and_nothing_pushed_for_the_same_moment(online):
    online.write("m-newer", 1, NOON + SECOND)
    online.write("m-equal", 1)
    online.materialize([("m-newer", 5, NOON), ("m-equal", 5, NOON)])
    assert online.number("m-newer") == 1
    assert online.number("m-equal") == 1


@over("online")
def test_a_reader_beside_a_writer_sees_whole_rows_that_never_go_back(online):
    writer_online = online.again()
    online.write("beside", 0)
    stop, failures = threading.Event(), []

    def write() -> None:
        try:
            for number in range(1, 300):
                writer_online.write("beside", number, NOON + number * MICRO)
        except BaseException as error:  # noqa: BLE001 - the test's own thread must see it
            failures.append(error)
        finally:
            stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = [0]
    while not stop.is_set():
        seen.append(online.number("beside"))
    writer.join()
    assert not failures
    assert seen == sorted(seen)
    assert online.number("beside") == 299


@pytest.mark.parametrize("kind", ["packed", pytest.param("sqlite", marks=cannot(LOCKS))])
def test_a_reader_does_not_wait_for_a_commit_in_progress(kind, tmp_path, request):
    online = opened(kind, tmp_path, request)
    online.write("locked", 1)
    with closing(sqlite3.connect(tmp_path / "online.sqlite", isolation_level=None)) as committing:
        committing.execute("BEGIN EXCLUSIVE")  # what a commit takes
        reader = online.again()
        if kind == "sqlite":
            reader.store._get_conn(reader.config).execute("PRAGMA busy_timeout = 50")
        assert reader.number("locked") == 1
        committing.execute("ROLLBACK")


@over("own_online")
def test_a_view_that_was_deleted_and_comes_again_is_empty(own_online):
    own_online.write("again", 1)
    own_online.write("again", {"state": Value(bytes_val=b"stays")}, of=own_online.states)
    own_online.apply(states(own_online.folder))
    own_online.apply(numbers(own_online.folder), states(own_online.folder))
    assert own_online.number("again") is None
    ((_, kept),) = own_online.read("again", of=own_online.states)
    assert kept == {"state": Value(bytes_val=b"stays")}


@over("own_online")
def test_applying_again_keeps_what_is_stored(own_online):
    own_online.write("kept", 1)
    own_online.apply(numbers(own_online.folder), states(own_online.folder))
    assert own_online.again().number("kept") == 1


@over("own_online")
def test_a_feature_that_a_view_gets_later_is_null_in_older_rows(own_online):
    own_online.write("grown", 1)
    grown = numbers(own_online.folder, features=("left", "right", "third"))
    own_online.apply(grown, states(own_online.folder))
    answer = own_online.feast.get_online_features(
        features=["numbers:left", "numbers:third"], entity_rows=[{"customer_id": "grown"}]
    ).to_dict()
    assert (answer["left"], answer["third"]) == ([1], [None])


@over("own_online", sqlite=WHOLE_FILE, redis=WHOLE_ENTITY)
def test_a_teardown_of_one_view_leaves_the_others(own_online):
    own_online.write("torn", 1)
    own_online.write("torn", {"state": Value(bytes_val=b"stays")}, of=own_online.states)
    own_online.store.teardown(own_online.config, [own_online.numbers], [])
    ((_, kept),) = own_online.again().read("torn", of=own_online.states)
    assert kept == {"state": Value(bytes_val=b"stays")}


@over("own_online")
def test_nothing_is_left_after_a_teardown(own_online):
    own_online.write("gone", 1)
    own_online.feast.teardown()
    own_online.apply(numbers(own_online.folder), states(own_online.folder))
    assert own_online.number("gone") is None


@over("online")
def test_a_search_by_vector_is_refused_by_name(online):
    with pytest.raises((NotImplementedError, ValueError), match=r"not support|not enabled"):
        online.store.retrieve_online_documents(online.config, online.numbers, ["left"], [0.0], 1)
