"""A lake made by hand: a few rows for each topic, with moments in hours since `START`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reference_system.event_time import micros
from reference_system.events import encode
from reference_system.lake import delta_lake
from reference_system.use_cases import topic_named

START = datetime(2025, 2, 1, tzinfo=UTC)


def at(hours):
    return START + timedelta(hours=hours)


def time_at(hours):
    return micros(at(hours))


def put(lake, topic_name, *rows, late=False):
    """Append rows; what a test does not care about is filled in."""
    topic = topic_named(topic_name)
    events = [topic.record(schema_version=1, **row) for row in rows]
    for event in events:
        encode(event)
    table = delta_lake.to_table(topic, events, [-1] * len(events), [-1] * len(events), [late] * len(events))
    delta_lake.append(lake, topic, table, versions={})


def payment(number, hours, *, customer="c1", terminal="t1", amount=10.0):
    return {
        "event_timestamp": at(hours),
        "transaction_id": f"p{number}",
        "customer_id": customer,
        "terminal_id": terminal,
        "amount": amount,
    }


def chargeback(number, hours, known_hours, *, customer="c1", terminal="t1"):
    return {
        "event_timestamp": at(hours),
        "created_timestamp": at(known_hours),
        "chargeback_id": f"cb{number}",
        "transaction_id": f"p{number}",
        "customer_id": customer,
        "terminal_id": terminal,
    }


def reversal(number, hours, known_hours, *, customer="c1", terminal="t1"):
    """What takes back the chargeback of the same number."""
    return chargeback(number, hours, known_hours, customer=customer, terminal=terminal)


def video(number, hours, *, category="kids", seconds=60.0):
    return {
        "event_timestamp": at(hours),
        "video_id": f"m{number}",
        "category": category,
        "duration_seconds": seconds,
    }


def page(  # noqa: PLR0913 - one argument for each field that a test may want
    number, hours, videos, *, viewer="v1", propensities=None, policy="popularity"
):
    return {
        "event_timestamp": at(hours),
        "impression_id": f"i{number}",
        "session_id": f"s{number}",
        "viewer_id": viewer,
        "video_ids": [f"m{one}" for one in videos],
        "propensities": propensities or [0.5] * len(videos),
        "policy": policy,
    }


def watch(page_number, hours, video_number, *, viewer="v1", completion=1.0, position=1):  # noqa: PLR0913 - facts of a watch
    return {
        "event_timestamp": at(hours),
        "watch_id": f"w-i{page_number}-{position}",
        "impression_id": f"i{page_number}",
        "viewer_id": viewer,
        "video_id": f"m{video_number}",
        "category": "kids",
        "position": position,
        "watch_seconds": 60.0 * completion,
        "completion": completion,
    }
