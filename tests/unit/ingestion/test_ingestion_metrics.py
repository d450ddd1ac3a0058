"""What ingestion tells Prometheus."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.use_cases import TOPICS


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> IngestionMetrics:
    return IngestionMetrics(TOPICS, ["counted", "late"], registry=registry)


def test_counters_start_at_the_persisted_totals_and_follow_them(
    metrics: IngestionMetrics, registry: CollectorRegistry
):
    labels = {"topic": "watches", "outcome": "counted"}
    assert registry.get_sample_value("workbook_events_total", labels) == 0
    metrics.show({("watches", "counted"): 1_000}, {})
    metrics.show({("watches", "counted"): 1_005}, {"watches": 3})
    assert registry.get_sample_value("workbook_events_total", labels) == 1_005
    assert registry.get_sample_value("workbook_consumer_lag", {"topic": "watches"}) == 3


def test_freshness_is_absent_until_it_was_measured_and_then_covers_the_last_events(
    metrics: IngestionMetrics, registry: CollectorRegistry
):
    metrics.show({}, {})
    assert registry.get_sample_value("workbook_freshness_ms", {"quantile": "0.5"}) is None
    metrics.add_delays([10_000.0] * 50)
    metrics.add_delays(float(delay) for delay in range(2_000))
    metrics.show({}, {})
    assert registry.get_sample_value("workbook_freshness_ms", {"quantile": "0.5"}) == pytest.approx(999.5)
    assert registry.get_sample_value("workbook_freshness_ms", {"quantile": "0.99"}) == pytest.approx(1_979.0, abs=0.1)
