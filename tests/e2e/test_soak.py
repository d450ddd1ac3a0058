"""A minute of a soak: every figure that is judged can be had of a live system, and the ledger holds beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reference_system.proofs.ledger.ledger import recount_and_compare
from reference_system.proofs.soak.bounds import rules
from reference_system.proofs.soak.soak import soak_report, watch

if TYPE_CHECKING:
    from conftest import LiveSystem


def test_every_figure_that_a_soak_judges_is_seen_within_a_minute(live: LiveSystem) -> None:
    live.healthy_status()
    samples = watch(live.settings, minutes=1.2, progress=lambda *_: None)
    found = soak_report(samples, live.settings, recount_and_compare(live.settings))
    assert found.problems == []
    assert [one.figure for one in found.judged if one.found is None] == []
    for rule in rules(live.settings, 48.0):
        assert any(one.figure.startswith(rule.figure) for one in found.judged), rule
    memory = {one.figure: one.median for one in found.judged if one.figure.startswith("memory of ")}
    for service in ("kafka", "mlflow", "prefect", "serving", "ingestion", "world", "flows"):
        assert (memory[f"memory of {service} (MB)"] or 0.0) > 10
    # The release flow comes round every ten seconds, less often beside other tests, and each run is told once.
    late = [sample.figures["late: release (s)"] for sample in samples if "late: release (s)" in sample.figures]
    assert late
    assert len(late) == 1 or len(set(late)) > 1
    (services,) = (one for one in found.judged if one.figure == "services")
    assert services.holds
    assert samples[-1].event_time > samples[0].event_time
    assert samples[-1].figures["cpu of all (s)"] > samples[0].figures["cpu of all (s)"]
