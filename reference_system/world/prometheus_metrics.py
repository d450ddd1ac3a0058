"""Prometheus metrics of the world.

In: published events, outcomes of requests, the event time. Out: `workbook_world_events_total`,
`workbook_world_requests_total` and `workbook_world_event_time_seconds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from reference_system.events import Topic


class WorldMetrics:
    """The counters and the gauge of one world process."""

    def __init__(self, topics: Sequence[Topic], *, registry: CollectorRegistry = REGISTRY) -> None:
        """Register them; every topic is shown from the start, with 0."""
        self._events = Counter("workbook_world_events", "Events published.", ["topic"], registry=registry)
        self._requests = Counter(
            "workbook_world_requests",
            "Requests to the real-time service by outcome.",
            ["endpoint", "outcome"],
            registry=registry,
        )
        self._time = Gauge(
            "workbook_world_event_time_seconds", "The event time that the world has reached.", registry=registry
        )
        for topic in topics:
            self._events.labels(topic.name)

    def count_request(self, endpoint: str, outcome: str) -> None:
        """Count one request."""
        self._requests.labels(endpoint, outcome).inc()

    def show(self, published: Mapping[str, int], event_time: datetime) -> None:
        """Record a tick: events by topic, and the event time that it reached."""
        for topic, count in published.items():
            self._events.labels(topic).inc(count)
        self._time.set(event_time.timestamp())
