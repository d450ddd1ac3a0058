"""A lake made by hand: a few rows for each topic, with moments in hours since `START`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reference_system.event_time import micros
from reference_system.events import encode
from reference_system.lake import delta_lake
from reference_system.use_cases import topic_named

START = datetime(2025, 2, 1, tzinfo=UTC)

# The fields of an event.
Row = dict[str, Any]


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def time_at(hours: float) -> int:
    return micros(at(hours))


def put(lake: Path, topic_name: str, *rows: Row, late: bool = False) -> None:
    """Append rows; what a test does not care about is filled in."""
    topic = topic_named(topic_name)
    events = [topic.record(schema_version=1, **row) for row in rows]
    for event in events:
        encode(event)
    table = delta_lake.to_table(topic, events, [-1] * len(events), [-1] * len(events), [late] * len(events))
    delta_lake.append(lake, topic, table, versions={})


def payment(
    number: int | str, hours: float, *, customer: str = "c1", terminal: str = "t1", amount: float = 10.0
) -> Row:
    return {
        "event_timestamp": at(hours),
        "transaction_id": f"p{number}",
        "customer_id": customer,
        "terminal_id": terminal,
        "amount": amount,
    }


def chargeback(
    number: int | str, hours: float, known_hours: float, *, customer: str = "c1", terminal: str = "t1"
) -> Row:
    return {
        "event_timestamp": at(hours),
        "created_timestamp": at(known_hours),
        "chargeback_id": f"cb{number}",
        "transaction_id": f"p{number}",
        "customer_id": customer,
        "terminal_id": terminal,
    }


def reversal(
    number: int | str, hours: float, known_hours: float, *, customer: str = "c1", terminal: str = "t1"
) -> Row:
    """What takes back the chargeback of the same number."""
    return chargeback(number, hours, known_hours, customer=customer, terminal=terminal)


def video(number: int | str, hours: float, *, category: str = "kids", seconds: float = 60.0) -> Row:
    return {
        "event_timestamp": at(hours),
        "video_id": f"m{number}",
        "category": category,
        "duration_seconds": seconds,
    }


def page(  # noqa: PLR0913 - one argument for each field that a test may want
    number: int | str,
    hours: float,
    videos: Sequence[int | str],
    *,
    viewer: str = "v1",
    propensities: Sequence[float] | None = None,
    policy: str = "popularity",
) -> Row:
    return {
        "event_timestamp": at(hours),
        "impression_id": f"i{number}",
        "session_id": f"s{number}",
        "viewer_id": viewer,
        "video_ids": [f"m{one}" for one in videos],
        "propensities": propensities or [0.5] * len(videos),
        "policy": policy,
    }


def watch(  # noqa: PLR0913 - facts of a watch
    page_number: int | str,
    hours: float,
    video_number: int | str,
    *,
    viewer: str = "v1",
    completion: float = 1.0,
    position: int = 1,
) -> Row:
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
