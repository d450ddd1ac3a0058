"""Both rankers on the same pages."""

from __future__ import annotations

from reference_system.flows.release.case import Compare
from reference_system.registry.release.duckdb_logs import ReleaseLogs
from reference_system.registry.release.evidence import compare_pages
from reference_system.registry.release.guardrails import RequestComparison


def _compare(logs: ReleaseLogs, _seed: int) -> RequestComparison | None:
    return compare_pages(logs.pages())


COMPARE: Compare = _compare
