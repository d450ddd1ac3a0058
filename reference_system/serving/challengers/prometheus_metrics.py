"""What the service tells about the versions beside the champions.

In: counts and times. Out: metric families, part of the page of `prometheus_metrics.py`.
Invariant: every number may be added by the event loop or by the shadow's thread; one lock is around all of them.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

_SECONDS = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)


class ChallengerMetrics:
    """The numbers of one service's challengers."""

    def __init__(self) -> None:
        """Empty: a challenger's labels exist once there is one."""
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, ...]] = Counter()
        self._errors: Counter[tuple[str, ...]] = Counter()
        self._refused: Counter[tuple[str, ...]] = Counter()
        self._shadow: Counter[tuple[str, ...]] = Counter()
        self._planned: dict[str, tuple[str, str]] = {}
        self._tripped: dict[str, tuple[str, str]] = {}
        self._times: dict[tuple[str, str], list[int]] = {}
        self._sums: dict[tuple[str, str], float] = {}

    def answered(self, use_case: str, version: str, role: str) -> None:
        """One request was answered by this version, in the role `champion` or `challenger`."""
        with self._lock:
            self._answers[use_case, version, role] += 1

    def scored(self, use_case: str, role: str, seconds: float) -> None:
        """One request's model work took so much CPU time."""
        with self._lock:
            counts = self._times.setdefault((use_case, role), [0] * (len(_SECONDS) + 1))
            counts[bisect_left(_SECONDS, seconds)] += 1
            self._sums[use_case, role] = self._sums.get((use_case, role), 0.0) + seconds

    def shadow(self, use_case: str, version: str, outcome: str) -> None:
        """One shadow job was `scored`, `dropped` or `failed`."""
        with self._lock:
            self._shadow[use_case, version, outcome] += 1

    def failed(self, use_case: str, version: str) -> None:
        """A challenger raised or gave what is no score."""
        with self._lock:
            self._errors[use_case, version] += 1

    def refused(self, use_case: str, version: str) -> None:
        """A challenger's bundle was refused."""
        with self._lock:
            self._refused[use_case, version] += 1

    def planned(self, use_case: str, version: str, mode: str) -> None:
        """A challenger was loaded for this mode; a new plan closes the breaker."""
        with self._lock:
            self._planned[use_case] = version, mode
            self._tripped.pop(use_case, None)

    def ended(self, use_case: str) -> None:
        """There is no challenger any more."""
        with self._lock:
            self._planned.pop(use_case, None)
            self._tripped.pop(use_case, None)

    def tripped(self, use_case: str, version: str, reason: str) -> None:
        """A challenger's breaker opened."""
        with self._lock:
            self._tripped[use_case] = version, reason

    def collect(self) -> Iterator[Metric]:
        """All families as they are now."""
        with self._lock:
            yield _counter("workbook_answers", "Answers.", ("use_case", "version", "role"), self._answers)
            yield _counter("workbook_challenger_errors", "Its errors.", ("use_case", "version"), self._errors)
            yield _counter("workbook_challenger_refused", "Refused bundles.", ("use_case", "version"), self._refused)
            yield _counter("workbook_shadow", "Shadow jobs.", ("use_case", "version", "outcome"), self._shadow)
            names = "use_case", "version"
            yield _gauge("workbook_challenger_info", "Who is beside the champion.", (*names, "mode"), self._planned)
            yield _gauge("workbook_challenger_tripped", "Open breakers.", (*names, "reason"), self._tripped)
            yield self._histogram()

    def _histogram(self) -> Metric:
        labels = ["use_case", "role"]
        family = HistogramMetricFamily(
            "workbook_scoring_seconds", "CPU time of one request's model work.", labels=labels
        )
        bounds = [*(str(bound) for bound in _SECONDS), "+Inf"]
        for key, counts in self._times.items():
            family.add_metric(
                list(key), list(zip(bounds, map(float, accumulate(counts)), strict=True)), self._sums[key]
            )
        return family


def _counter(name: str, text: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in counts.items():
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], found: Mapping[str, tuple[str, ...]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for use_case, values in found.items():
        family.add_metric([use_case, *values], 1)
    return family
