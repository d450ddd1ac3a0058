"""The history of promotions."""

from __future__ import annotations

from datetime import UTC, datetime

from reference_system.registry.promotions import Decision, append_decision, read_decisions


def promotion(version, previous):
    return Decision(
        event_timestamp=datetime(2025, 4, 6, tzinfo=UTC),
        use_case="fraud",
        version=version,
        previous=previous,
        reasons=("better",),
    )


def test_nobody_was_promoted_in_the_beginning(tmp_path):
    assert read_decisions(tmp_path) == []


def test_promotions_are_added_and_read_in_order(tmp_path):
    history = [promotion("1", None), promotion("2", "1"), promotion("1", "2")]
    for one in history:
        append_decision(tmp_path / "bundles", one)
    assert read_decisions(tmp_path / "bundles") == history
