"""Both fraud models on the same payments."""

from __future__ import annotations

from reference_system.flows.release.case import Compare
from reference_system.registry.release.duckdb_logs import ReleaseLogs
from reference_system.registry.release.fraud_evidence import compare_payments
from reference_system.registry.release.fraud_logs import payment_pairs
from reference_system.registry.release.guardrails import RequestComparison


def _compare(logs: ReleaseLogs, seed: int) -> RequestComparison | None:
    return compare_payments(payment_pairs(logs), seed=seed)


COMPARE: Compare = _compare
