"""Rows: what each event adds to each view, in any batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_events import EVENTS, NOW, TOPIC_NAMES, example, stream

from reference_system.event_time import micros
from reference_system.events import SHADOWS, Event
from reference_system.features.stream.state_rows import is_keyed_by, microseconds, reader, topics_of
from reference_system.use_cases import TOPICS, VIEWS
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.features import (
    NEWEST_VIDEOS,
    VIDEO_POPULARITY,
    VIDEO_PROFILE,
    VIDEO_RATINGS,
    VIEWER_ACTIVITY,
    VIEWER_RECENT,
)
from reference_system.windows import EVERYONE, SNAP, Rows, View, WindowedView, total

# Shadow predictions have the record of predictions.
PRODUCED = [topic for topic in TOPICS if topic is not SHADOWS]
# As naive times, which hypothesis asks for.
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC).replace(tzinfo=None) for year in (1970, 2106))


def added(view: View, *events: Event) -> list[tuple[str, int, tuple]]:
    """(key, place, addition) of events of one topic."""
    (topic,) = {topic.name for topic in PRODUCED for event in events if isinstance(event, topic.record)}
    if topic not in topics_of(view):
        return []
    return list(reader(view, topic)(events, [micros(event.event_timestamp) for event in events]))


def row(view: WindowedView, addition: tuple) -> dict[str, float]:
    return dict(zip(view.columns, addition[1:], strict=True))


@given(moment=st.datetimes(EARLIEST, LATEST, timezones=st.just(UTC)))
def test_microseconds_are_exact(moment: datetime):
    assert microseconds(moment) == micros(moment)


@given(moment=st.datetimes(EARLIEST, LATEST), hours=st.integers(-23, 23))
def test_microseconds_do_not_depend_on_the_zone(moment: datetime, hours: int):
    aware = moment.replace(tzinfo=UTC).astimezone(timezone(timedelta(hours=hours)))
    assert microseconds(aware) == micros(moment.replace(tzinfo=UTC))


def test_a_transaction_is_a_row_with_its_amount():
    ((key, place, addition),) = added(CUSTOMER_ACTIVITY, example("transactions", amount=9.5))
    assert (key, place, addition[0]) == ("c000001", 0, micros(NOW))
    assert row(CUSTOMER_ACTIVITY, addition) == {"amount": 9.5, "transactions": 1.0}


def test_a_negative_zero_becomes_a_positive_one():
    for view, event in (
        (CUSTOMER_ACTIVITY, example("transactions", amount=-0.0)),
        (VIDEO_POPULARITY, example("watches", completion=-0.0)),
    ):
        ((_, _, addition),) = added(view, event)
        assert all(str(value) != "-0.0" for value in addition[1:])


def test_a_chargeback_within_the_label_delay_reports_a_fraud_at_the_time_of_the_payment():
    label = example("chargebacks", event_timestamp=NOW - timedelta(days=7), created_timestamp=NOW)
    assert added(TERMINAL_RISK, label) == [("t000001", 0, (micros(NOW - timedelta(days=7)), "x1", "b1", False))]


def test_a_reversal_takes_a_report_back_however_long_after_the_payment():
    back = example("chargeback-reversals", event_timestamp=NOW - timedelta(days=70), created_timestamp=NOW)
    assert added(TERMINAL_RISK, back) == [("t000001", 0, (micros(NOW - timedelta(days=70)), "x1", "b1", True))]


def test_a_chargeback_after_the_label_delay_is_no_row_and_the_others_keep_their_places():
    labels = [
        example("chargebacks", chargeback_id=f"b{n}", event_timestamp=NOW - timedelta(days=days), terminal_id=f"t{n}")
        for n, days in enumerate((3, 7.001, 1))
    ]
    assert [(key, place) for key, place, _ in added(TERMINAL_RISK, *labels)] == [("t0", 0), ("t2", 2)]


def test_a_page_is_a_row_for_each_of_its_videos():
    pages = [example("impressions"), example("impressions", impression_id="i2", video_ids=["m9"], propensities=[1.0])]
    found = added(VIDEO_POPULARITY, *pages)
    assert [(key, place) for key, place, _ in found] == [("m000001", 0), ("m000002", 0), ("m9", 1)]
    assert row(VIDEO_POPULARITY, found[0][2]) == {"completion": 0.0, "impressions": 1.0, "watches": 0.0}
    assert added(VIEWER_ACTIVITY, *pages) == []


def test_an_indicator_is_one_in_its_own_column_only():
    ((_, _, addition),) = added(VIEWER_ACTIVITY, example("watches", category="news", completion=0.25))
    assert {name for name, value in row(VIEWER_ACTIVITY, addition).items() if value} == {
        "news",
        "watches",
        "completion",
    }


@pytest.mark.parametrize(("before", "hours"), [(0, 12), (1, 12), (6 * 3600, 6), (6 * 3600 - 1, 12)])
def test_a_row_of_a_tiled_view_stands_at_the_end_of_its_tile(before: int, hours: int):
    ((_, _, addition),) = added(VIDEO_POPULARITY, example("watches", event_timestamp=NOW - timedelta(seconds=before)))
    assert addition[0] == micros(NOW.replace(hour=hours))


@given(completion=st.floats(0.0, 1.0))
def test_values_of_tiled_views_are_whole_numbers_of_the_smallest_part(completion: float):
    ((_, _, addition),) = added(VIDEO_POPULARITY, example("watches", completion=completion))
    value = row(VIDEO_POPULARITY, addition)["completion"]
    assert (value * SNAP).is_integer()
    assert abs(value - completion) <= 0.5 / SNAP
    ((_, _, addition),) = added(VIEWER_ACTIVITY, example("watches", completion=completion))
    assert row(VIEWER_ACTIVITY, addition)["completion"] == completion, "quiet entities are exact"


def test_items_and_profiles_say_what_their_event_says():
    assert added(VIEWER_RECENT, example("watches")) == [("v000001", 0, (micros(NOW), "m000001"))]
    assert added(NEWEST_VIDEOS, example("videos")) == [(EVERYONE, 0, (micros(NOW), "m000001"))]
    fields = {"category": "music", "duration_seconds": 240.0, "event_timestamp": micros(NOW)}
    assert added(VIDEO_PROFILE, example("videos")) == [("m000001", 0, (micros(NOW), fields))]


def test_a_view_may_take_a_topic_twice():
    view = WindowedView(
        name="both_sides",
        entity="account",
        rows=tuple(
            Rows(topic="transactions", entity=entity, values=(("count", 1.0),))
            for entity in ("customer_id", "terminal_id")
        ),
        windows=(total("count_1d", "count", days=1),),
    )
    assert [key for key, _, _ in added(view, example("transactions"))] == ["c000001", "t000001"]
    assert not is_keyed_by(view, "transactions")


def test_the_task_that_reads_an_event_owns_the_entities_that_key_its_topic():
    keyed = {(view.name, topic) for view in VIEWS for topic in topics_of(view) if is_keyed_by(view, topic)}
    assert keyed == {
        ("customer_activity", "transactions"),
        ("terminal_risk", "chargebacks"),
        ("terminal_risk", "chargeback-reversals"),
        ("viewer_activity", "watches"),
        ("viewer_recent_watches", "watches"),
        ("viewer_ratings", "ratings"),
        ("video_profile", "videos"),
    }
    assert not is_keyed_by(VIDEO_RATINGS, "ratings")


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_an_event_adds_the_same_in_whatever_batch_it_comes(view: View):
    for topic in topics_of(view):
        events = [event for of, event in stream(3, 400) if of.name == topic]
        whole = [(events[place], key, addition) for key, place, addition in added(view, *events)] if events else []
        alone = [(event, key, addition) for event in events for key, _, addition in added(view, event)]
        assert whole == alone


@settings(max_examples=30, deadline=None)
@given(data=st.data(), topic=st.sampled_from(TOPIC_NAMES))
def test_any_valid_event_can_be_read_by_every_view(data: st.DataObject, topic: str):
    event = data.draw(EVENTS[topic])
    for view in VIEWS:
        for key, place, addition in added(view, event):
            assert key
            assert place == 0
            assert isinstance(addition[0], int)
