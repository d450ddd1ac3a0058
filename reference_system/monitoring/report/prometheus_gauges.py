"""What monitoring tells Prometheus: the figures of the latest report.

In: `latest.json` in the reports' folder, read at every scrape. Out: gauges.
Invariant: whichever process ran the report, the gauges show it; without a report there are none.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reference_system.monitoring.report.record import MonitoringReport, read_latest
from reference_system.paths import StatePaths


class LatestReport(Collector):
    """A collector for `REGISTRY.register`."""

    def __init__(self, paths: StatePaths) -> None:
        """Read the reports of this state directory."""
        self._reports = paths.reports

    def collect(self) -> Iterable[Metric]:
        """The gauges of the latest report."""
        psi = GaugeMetricFamily(
            "workbook_drift_psi", "psi of the current window against the reference.", labels=["use_case", "column"]
        )
        performance = GaugeMetricFamily(
            "workbook_performance", "Metrics of the newest day with mature labels.", labels=["use_case", "metric"]
        )
        drifted = GaugeMetricFamily("workbook_drifted_columns", "Columns that drifted.", labels=["use_case"])
        moment = GaugeMetricFamily("workbook_monitor_event_time_seconds", "Event time of the latest report.")
        report = read_latest(self._reports)
        if report is not None:
            moment.add_metric([], report.as_of.timestamp())
            for case in report.use_cases:
                drifted.add_metric([case.use_case], len(case.drifted))
                for column in (column for group in case.groups for column in group.columns):
                    if column.psi is not None:
                        psi.add_metric([case.use_case, column.column], column.psi)
                newest = max(
                    (day for day in case.performance.days if day.enough), key=lambda day: day.day, default=None
                )
                for name, value in (newest.metrics if newest else {}).items():
                    performance.add_metric([case.use_case, name], value)
        return (psi, drifted, performance, moment, *_worth(report))


def _worth(report: MonitoringReport | None) -> Iterable[Metric]:
    """What pages are worth, by policy."""
    watches = GaugeMetricFamily(
        "workbook_watches_per_page",
        "Watches a page of a policy over its days of the latest report; bounds of the 95 % interval.",
        labels=["policy", "bound"],
    )
    gain = GaugeMetricFamily(
        "workbook_watches_per_page_gain",
        "The same, minus what pages drawn by chance brought on the same days.",
        labels=["policy", "bound"],
    )
    for row in (row for case in (report.use_cases if report else ()) for row in case.performance.worth):
        for gauge, found in ((watches, row.watches), (gain, row.gain)):
            for bound in ("low", "value", "high") if found is not None else ():
                gauge.add_metric([row.policy, bound], getattr(found, bound))
    return (watches, gain)
