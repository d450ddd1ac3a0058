"""Promoting without a registry: the pointer says who is champion, the log and the alias follow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tiny_models import tiny_bundle

from reference_system.errors import BundleRefused, StateError
from reference_system.registry import promotion as promoting
from reference_system.registry.bundles.bundle import current_version, set_current
from reference_system.registry.promotion_log import LoggedDecision, append_decision, read_decisions

NOON = datetime(2025, 4, 6, 12, tzinfo=UTC)
NOBODY = 9  # the discard port: nothing listens there


@pytest.fixture
def root(tmp_path):
    for version in ("1", "2", "3"):
        tiny_bundle(tmp_path, version=version)
    return tmp_path


def decision(version, previous=None, kind="champion", hours=0):
    return LoggedDecision(
        event_timestamp=NOON + timedelta(hours=hours), use_case="fraud", kind=kind, version=version, previous=previous
    )


def make(root, version, said):
    promoting.make_champion(root, NOBODY, use_case="fraud", version=version, decision=said)


def test_without_a_registry_pointer_and_log_are_moved_and_the_alias_is_owed(root):
    make(root, "1", decision("1"))
    assert current_version(root, "fraud") == "1"
    assert read_decisions(root) == [decision("1")]
    assert promoting.alias_is_owed(root, "fraud")
    assert not promoting.settle_alias(root, NOBODY, "fraud")


def test_the_same_decision_carried_out_twice_is_in_the_log_once(root):
    for _ in range(2):
        make(root, "1", decision("1"))
    assert read_decisions(root) == [decision("1")]


def test_a_damaged_bundle_is_not_promoted_and_nothing_has_changed(root):
    make(root, "1", decision("1"))
    (root / "fraud" / "2" / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BundleRefused):
        make(root, "2", decision("2", "1"))
    assert current_version(root, "fraud") == "1"
    assert len(read_decisions(root)) == 1


def test_a_crash_between_pointer_and_log_is_mended_by_the_log_following(root):
    make(root, "1", decision("1"))
    set_current(root, "fraud", "2")
    for _ in range(2):
        promoting.reconcile_champion(root, NOBODY, use_case="fraud", now=NOON)
    last = read_decisions(root)[-1]
    assert (last.kind, last.version, last.previous) == ("champion", "2", "1")
    assert len(read_decisions(root)) == 2


def test_a_rollback_that_died_before_the_pointer_moved_leaves_a_champion_that_the_log_calls_so(root):
    make(root, "1", decision("1"))
    append_decision(root, decision("1", kind="rolled back"))
    for _ in range(2):
        promoting.reconcile_champion(root, NOBODY, use_case="fraud", now=NOON)
    assert [one.kind for one in read_decisions(root)] == ["champion", "rolled back", "champion"]
    assert promoting.rolled_back(root, "fraud") == set()


def test_the_champion_before_is_neither_the_present_one_nor_one_that_was_rolled_back(root):
    for hours, version in enumerate(("1", "2", "3")):
        make(root, version, decision(version, hours=hours))
    append_decision(root, decision("2", kind="rolled back", hours=5))
    assert promoting.rolled_back(root, "fraud") == {"2"}
    assert promoting.champion_to_restore(root, "fraud") == "1"


def test_with_one_champion_ever_there_is_nothing_to_go_back_to(root):
    make(root, "1", decision("1"))
    with pytest.raises(StateError, match="no other champion"):
        promoting.champion_to_restore(root, "fraud")


def test_a_version_that_a_person_promotes_again_counts_as_rolled_back_no_more(root):
    append_decision(root, decision("2", kind="rolled back"))
    make(root, "2", decision("2", hours=1))
    assert promoting.rolled_back(root, "fraud") == set()
