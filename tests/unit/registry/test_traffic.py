"""The traffic plan is there whole, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reference_system.errors import StateError
from reference_system.registry.traffic import PLAN, TrafficPlan, clear_plan, read_plan, write_plan

CANARY = TrafficPlan(
    use_case="fraud",
    mode="canary",
    version="3",
    name="release-3",
    share=0.2,
    salt="release-3",
    since=datetime(2025, 4, 6, tzinfo=UTC),
)


def test_without_a_plan_the_champion_answers_alone(tmp_path):
    assert read_plan(tmp_path, "fraud") is None


def test_a_plan_is_read_as_it_was_written(tmp_path):
    write_plan(tmp_path, CANARY)
    assert read_plan(tmp_path, "fraud") == CANARY
    assert read_plan(tmp_path, "recommendation") is None


def test_a_plan_ends_once_and_for_all(tmp_path):
    write_plan(tmp_path, CANARY)
    clear_plan(tmp_path, "fraud")
    clear_plan(tmp_path, "fraud")
    assert read_plan(tmp_path, "fraud") is None


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"mode": "canary"', CANARY.mode.encode()])
def test_a_damaged_plan_is_an_error_with_the_command_that_mends_it(tmp_path, damage):
    write_plan(tmp_path, CANARY)
    path = tmp_path / "fraud" / PLAN
    path.write_bytes(damage)
    with pytest.raises(StateError) as refused:
        read_plan(tmp_path, "fraud")
    assert refused.value.next_command == f"rm {path}"
