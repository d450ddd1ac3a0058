"""Both rankers on the same pages."""

from __future__ import annotations

from reference_system.flows.release.case import Compare
from reference_system.registry.release.duckdb_logs import ReleaseLogs
from reference_system.registry.release.guardrails import RequestComparison
from reference_system.registry.release.recommendation_evidence import compare_pages
from reference_system.registry.release.recommendation_logs import page_pairs


def _compare(logs: ReleaseLogs, _seed: int) -> RequestComparison | None:
    return compare_pages(page_pairs(logs))


COMPARE: Compare = _compare
