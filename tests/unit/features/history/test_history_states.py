"""Snapshots: states as the stream would have pushed them, with the time of the newest event in them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from reference_system.event_time import micros
from reference_system.features.history.states import states
from reference_system.lake import delta_lake
from reference_system.use_cases import VIEWS
from reference_system.use_cases.fraud.events import CHARGEBACKS, TRANSACTIONS, ChargebackReported, Transaction
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.events import VIDEOS, WATCHES, VideoPublished, VideoWatched
from reference_system.use_cases.recommendation.features import (
    NEWEST_VIDEOS,
    VIDEO_POPULARITY,
    VIDEO_PROFILE,
    VIEWER_RECENT,
)
from reference_system.windows import EVERYONE, unpack_tail

NOON = datetime(2025, 3, 3, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def payment(number: int, moment: datetime, customer: str = "c1") -> Transaction:
    return Transaction(
        schema_version=1,
        event_timestamp=moment,
        transaction_id=f"t{number}",
        customer_id=customer,
        terminal_id="m1",
        amount=float(number),
    )


def watched(number: int, moment: datetime, video: str, viewer: str = "u1") -> VideoWatched:
    return VideoWatched(
        schema_version=1,
        event_timestamp=moment,
        watch_id=f"w{number}",
        impression_id="i1",
        viewer_id=viewer,
        video_id=video,
        category="news",
        position=1,
        watch_seconds=1.0,
        completion=0.5,
    )


def published(video: str, moment: datetime, duration: float = 60.0) -> VideoPublished:
    return VideoPublished(
        schema_version=1, event_timestamp=moment, video_id=video, category="kids", duration_seconds=duration
    )


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


def put(lake, topic, events, partitions=None, offsets=None):
    """Rows of generated history, or of the stream where partitions and offsets are given."""
    nowhere = [delta_lake.NO_OFFSET] * len(events)
    table = delta_lake.to_table(topic, events, partitions or nowhere, offsets or nowhere)
    versions = dict(zip(partitions or (), offsets or (), strict=True))
    delta_lake.append(lake, topic, table, versions=versions)


def snapshot(view, lake, as_of=NOON, offsets=None):
    return {key: (time, state) for key, time, state in states(view, lake, as_of, offsets=offsets)}


def test_a_tail_holds_the_entitys_rows_in_order(lake):
    put(lake, TRANSACTIONS, [payment(2, NOON), payment(1, NOON - HOUR), payment(3, NOON - HOUR, "c2")])
    found = snapshot(CUSTOMER_ACTIVITY, lake)
    tail = unpack_tail(CUSTOMER_ACTIVITY, found["c1"][1])
    assert tail.times.tolist() == [micros(NOON - HOUR), micros(NOON)]
    assert tail.values.tolist() == [[1.0, 1.0], [2.0, 1.0]]
    assert found["c1"][0] == micros(NOON)
    assert found["c2"][0] == micros(NOON - HOUR)


def test_what_happened_later_is_not_in_the_state(lake):
    put(lake, TRANSACTIONS, [payment(1, NOON), payment(2, NOON + timedelta(microseconds=1))])
    assert len(unpack_tail(CUSTOMER_ACTIVITY, snapshot(CUSTOMER_ACTIVITY, lake)["c1"][1]).times) == 1


def test_an_entity_silent_for_longer_than_the_horizon_has_no_state(lake):
    put(lake, TRANSACTIONS, [payment(1, NOON - 32 * DAY)])
    assert snapshot(CUSTOMER_ACTIVITY, lake) == {}


def test_a_label_makes_the_state_as_new_as_the_moment_it_was_known(lake):
    paid = payment(1, NOON - 3 * DAY)
    label = ChargebackReported(
        schema_version=1,
        event_timestamp=paid.event_timestamp,
        created_timestamp=NOON - DAY,
        chargeback_id="b1",
        transaction_id="t1",
        customer_id="c1",
        terminal_id="m1",
    )
    put(lake, TRANSACTIONS, [paid])
    put(lake, CHARGEBACKS, [label])
    time, state = snapshot(TERMINAL_RISK, lake)["m1"]
    assert time == micros(NOON - DAY)
    tail = unpack_tail(TERMINAL_RISK, state)
    assert tail.times.tolist() == [micros(paid.event_timestamp)] * 2
    before = snapshot(TERMINAL_RISK, lake, as_of=NOON - 2 * DAY)["m1"]
    assert before[0] == micros(paid.event_timestamp)
    assert len(unpack_tail(TERMINAL_RISK, before[1]).times) == 1


def test_a_tiled_state_has_tile_ends_but_the_time_of_its_newest_event(lake):
    put(lake, WATCHES, [watched(1, NOON - 5 * HOUR, "v1"), watched(2, NOON - HOUR, "v1")])
    time, state = snapshot(VIDEO_POPULARITY, lake)["v1"]
    tail = unpack_tail(VIDEO_POPULARITY, state)
    assert tail.times.tolist() == [micros(NOON)]
    assert tail.values.tolist() == [[1.0, 0.0, 2.0]]
    assert time == micros(NOON - HOUR)


def test_recent_items_are_unique_newest_first_and_bounded(lake):
    watches = [watched(n, NOON - (60 - n) * HOUR, f"v{n % 40}") for n in range(60)]
    put(lake, WATCHES, watches)
    time, state = snapshot(VIEWER_RECENT, lake)["u1"]
    rows = msgspec.msgpack.decode(state)
    assert [item for _, item in rows] == [f"v{n % 40}" for n in range(59, 29, -1)]
    assert rows[0][0] == time == micros(NOON - HOUR)
    assert len(rows) == VIEWER_RECENT.length


def test_a_list_for_everyone_is_one_state_under_one_key(lake):
    put(lake, VIDEOS, [published("v1", NOON - 2 * HOUR), published("v2", NOON - HOUR)])
    found = snapshot(NEWEST_VIDEOS, lake)
    assert list(found) == [EVERYONE]
    assert msgspec.msgpack.decode(found[EVERYONE][1]) == [
        [micros(NOON - HOUR), "v2"],
        [micros(NOON - 2 * HOUR), "v1"],
    ]


def test_a_profile_is_the_latest_event_with_times_in_microseconds(lake):
    put(lake, VIDEOS, [published("v1", NOON - HOUR, 90.0), published("v1", NOON - 2 * HOUR, 60.0)])
    time, state = snapshot(VIDEO_PROFILE, lake)["v1"]
    assert time == micros(NOON - HOUR)
    assert msgspec.msgpack.decode(state) == {
        "category": "kids",
        "duration_seconds": 90.0,
        "event_timestamp": micros(NOON - HOUR),
    }


def test_with_offsets_exactly_the_events_up_to_them_count(lake):
    put(lake, TRANSACTIONS, [payment(1, NOON - HOUR)])
    put(lake, TRANSACTIONS, [payment(2, NOON)], [0], [10])
    put(lake, TRANSACTIONS, [payment(3, NOON + HOUR)], [0], [11])
    put(lake, TRANSACTIONS, [payment(4, NOON)], [1], [5])
    put(lake, TRANSACTIONS, [payment(5, NOON)], [2], [5])

    def amounts(offsets):
        state = snapshot(CUSTOMER_ACTIVITY, lake, offsets=offsets)["c1"][1]
        return sorted(unpack_tail(CUSTOMER_ACTIVITY, state).values[:, 0].tolist())

    assert amounts({}) == [1.0]
    assert amounts({("transactions", 0): 10, ("transactions", 1): 4, ("watches", 2): 9}) == [1.0, 2.0]
    assert amounts({("transactions", 0): 11, ("transactions", 1): 5}) == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_an_empty_lake_has_no_states(lake, view):
    assert snapshot(view, lake) == {}
