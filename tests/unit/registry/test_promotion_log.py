"""The history of promotions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from reference_system.errors import StateError
from reference_system.registry.promotion_log import (
    PROMOTIONS,
    LoggedDecision,
    append_decision,
    read_decisions,
)


def promotion(version, previous):
    return LoggedDecision(
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


def test_a_line_that_a_killed_writer_left_unfinished_is_no_decision_and_harms_no_later_one(tmp_path):
    append_decision(tmp_path, promotion("1", None))
    with (tmp_path / PROMOTIONS).open("ab") as file:
        file.write(b'{"event_timestamp":"2025-04-0')
    assert read_decisions(tmp_path) == [promotion("1", None)]
    append_decision(tmp_path, promotion("2", "1"))
    assert read_decisions(tmp_path) == [promotion("1", None), promotion("2", "1")]


def test_a_damaged_line_is_an_error_that_names_the_file(tmp_path):
    append_decision(tmp_path, promotion("1", None))
    path = tmp_path / PROMOTIONS
    path.write_bytes(b"no decision\n" + path.read_bytes())
    with pytest.raises(StateError, match=PROMOTIONS):
        read_decisions(tmp_path)
