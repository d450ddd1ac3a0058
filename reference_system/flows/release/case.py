"""What the controller of releases needs of a use case: `COMPARE` in `flows/release/<use case>.py`."""

from __future__ import annotations

from collections.abc import Callable

from reference_system.registry.release.duckdb_logs import ReleaseLogs
from reference_system.registry.release.guardrails import RequestComparison

# Both models on the same requests, from the paired logs and a seed; `None` while there is nothing to compare.
Compare = Callable[[ReleaseLogs, int], RequestComparison | None]
