"""What the real-time service tells about itself, for Prometheus.

In: counts, durations and ages, one plain addition each. Out: the text of `/metrics`.
Invariant: the request path touches only numbers of its own; Prometheus objects are made when somebody reads them.

`bentoml serve` switches the Prometheus client to files shared by several workers; there is one worker here, and a
collector of one's own neither pays for those files nor loses its histograms in them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from reference_system.serving.challengers.prometheus_metrics import ChallengerMetrics

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_AGE_SECONDS = (60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0)


class Distribution:
    """A histogram with fixed upper bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Empty."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """One observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and number of observations up to it, as Prometheus wants them."""
        names = [*(str(bound) for bound in self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class ServingMetrics(Collector):
    """The numbers of one service. Only the event loop adds to requests and ages; the rest is behind a lock."""

    def __init__(self, *, endpoints: tuple[str, ...], views: tuple[str, ...], log_outcomes: tuple[str, ...]) -> None:
        """Everything that can be shown is shown from the start, with 0."""
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds = {endpoint: Distribution(_SECONDS) for endpoint in endpoints}
        self._ages = {view: Distribution(_AGE_SECONDS) for view in views}
        self._lock = threading.Lock()
        self._log = Counter(dict.fromkeys(log_outcomes, 0))
        self._degraded: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._versions: dict[str, str] = {}
        self.challengers = ChallengerMetrics()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests[endpoint, status] += 1
        if endpoint in self._seconds:
            self._seconds[endpoint].add(seconds)

    def used(self, view: str, age_seconds: float) -> None:
        """An answer used a state of this age."""
        self._ages[view].add(age_seconds)

    def degraded(self, use_case: str) -> None:
        """An answer was given without the model."""
        self._degraded[use_case] += 1

    def serves(self, use_case: str, version: str) -> None:
        """A bundle was verified and answers from now on."""
        with self._lock:
            self._versions[use_case] = version

    def refused(self, use_case: str) -> None:
        """A bundle was refused."""
        with self._lock:
            self._refused[use_case] += 1

    def logged(self, outcome: str, count: int) -> None:
        """So many prediction-log records met this outcome."""
        with self._lock:
            self._log[outcome] += count

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        with self._lock:
            log, refused, versions = dict(self._log), dict(self._refused), dict(self._versions)
        requests = CounterMetricFamily("workbook_requests", "Answered requests.", labels=["endpoint", "status"])
        for (endpoint, status), count in self._requests.copy().items():
            requests.add_metric([endpoint, str(status)], count)
        yield requests
        yield _histogram("workbook_request_seconds", "From headers to answer.", "endpoint", self._seconds)
        yield _histogram("workbook_feature_age_seconds", "Event time since the newest event.", "view", self._ages)
        yield _counter("workbook_prediction_log", "Prediction-log records.", "outcome", log)
        yield _counter("workbook_degraded", "Answers without the model.", "use_case", self._degraded.copy())
        yield _counter("workbook_bundles_refused", "Bundles that failed verification.", "use_case", refused)
        info = GaugeMetricFamily("workbook_model_info", "The version that answers.", labels=["use_case", "version"])
        for use_case, version in versions.items():
            info.add_metric([use_case, version], 1)
        yield info
        yield from self.challengers.collect()


def _counter(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, label: str, found: Mapping[str, Distribution]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for value, distribution in found.items():
        family.add_metric([value], distribution.buckets(), distribution.sum)
    return family
