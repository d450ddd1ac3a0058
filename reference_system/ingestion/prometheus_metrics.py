"""What ingestion tells about itself, for Prometheus.

In: totals, delays and lags, as the loop knows them. Out: `workbook_events_total`, `workbook_freshness_ms` and
`workbook_consumer_lag`.
Invariant: the counters continue where the persisted totals stand, so a restart is not a reset.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

from reference_system.events import Topic

# Freshness is stated over this many events.
_WINDOW = 2_000
_QUANTILES = (0.5, 0.99)

Total = tuple[str, str]


class IngestionMetrics:
    """The gauges and counters of one ingestion process."""

    def __init__(
        self, topics: Sequence[Topic], outcomes: Iterable[str], *, registry: CollectorRegistry = REGISTRY
    ) -> None:
        """Register them; every topic and outcome is shown from the start, with 0."""
        self._events = Counter(
            "workbook_events", "Consumed events by what became of them.", ["topic", "outcome"], registry=registry
        )
        self._freshness = Gauge(
            "workbook_freshness_ms",
            f"From the producer's send to readable in the online store, quantile over the last {_WINDOW} events.",
            ["quantile"],
            registry=registry,
        )
        self._lag = Gauge("workbook_consumer_lag", "Records that wait in Kafka.", ["topic"], registry=registry)
        self._shown: dict[Total, int] = {(topic.name, outcome): 0 for topic in topics for outcome in outcomes}
        for topic, outcome in self._shown:
            self._events.labels(topic, outcome)
        self._delays: deque[float] = deque(maxlen=_WINDOW)

    def add_delays(self, milliseconds: Iterable[float]) -> None:
        """Note how long events took from the producer to the online store."""
        self._delays.extend(milliseconds)

    def show(self, totals: Mapping[Total, int], lag: Mapping[str, int]) -> None:
        """Bring everything up to date; about once a second is often enough."""
        for key, count in totals.items():
            self._events.labels(*key).inc(count - self._shown.get(key, 0))
            self._shown[key] = count
        for topic, behind in lag.items():
            self._lag.labels(topic).set(behind)
        if self._delays:
            for quantile, value in zip(_QUANTILES, np.quantile(self._delays, _QUANTILES), strict=True):
                self._freshness.labels(str(quantile)).set(round(float(value), 1))
