"""Reads that fail fast and heal."""

from __future__ import annotations

import pytest

from reference_system.serving.feature_reads import (
    DEADLINE_SECONDS,
    LATE_READS,
    FeaturesUnavailable,
    GuardedReads,
)
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY


class Store:
    """A store that can be broken and slow."""

    def __init__(self):
        self.now = 0.0
        self.takes = 0.0
        self.broken = False
        self.opened = self.asked = 0
        self.reads = GuardedReads(self.open, monotonic=lambda: self.now)

    def open(self):
        self.opened += 1
        if self.broken:
            raise OSError("no such file")
        return self.read

    def read(self, _view, keys):
        self.asked += 1
        self.now += self.takes
        if self.broken:
            raise ValueError("malformed")
        return [(b"state", 1) for _ in keys]

    def ask(self):
        return self.reads(CUSTOMER_ACTIVITY, ("c1",))

    def heal(self):
        return self.reads.heal(CUSTOMER_ACTIVITY, "c1")


@pytest.fixture
def store():
    return Store()


def test_nothing_is_opened_before_somebody_asks_to(store):
    with pytest.raises(FeaturesUnavailable):
        store.ask()
    assert store.opened == 0


def test_an_open_store_answers(store):
    assert store.heal()
    assert store.ask() == [(b"state", 1)]


def test_after_a_failure_nobody_waits_for_the_store_again(store):
    store.heal()
    store.broken = True
    asked = store.asked
    for _ in range(5):
        with pytest.raises(FeaturesUnavailable):
            store.ask()
    assert store.asked == asked + 1
    assert "malformed" in store.reads.failure


def test_a_store_that_works_again_is_used_again(store):
    store.heal()
    store.broken = True
    with pytest.raises(FeaturesUnavailable):
        store.ask()
    assert not store.heal()
    store.broken = False
    assert store.heal()
    assert store.ask() == [(b"state", 1)]
    assert store.reads.failure is None


def test_a_store_that_opens_but_does_not_answer_is_not_used(store):
    store.open = lambda: store.read
    store.reads = GuardedReads(store.open, monotonic=lambda: 0.0)
    store.broken = True
    assert not store.heal()
    with pytest.raises(FeaturesUnavailable):
        store.ask()


def test_one_late_answer_is_used_and_forgotten_with_the_next_quick_one(store):
    store.heal()
    for takes in [DEADLINE_SECONDS * 2, 0.0] * LATE_READS:
        store.takes = takes
        assert store.ask() == [(b"state", 1)]


def test_a_store_that_is_late_again_and_again_is_not_waited_for(store):
    store.heal()
    store.takes = DEADLINE_SECONDS * 2
    for _ in range(LATE_READS - 1):
        store.ask()
    with pytest.raises(FeaturesUnavailable, match="took longer"):
        store.ask()
    asked = store.asked
    with pytest.raises(FeaturesUnavailable):
        store.ask()
    assert store.asked == asked


def test_a_working_store_is_not_opened_twice(store):
    store.heal()
    store.heal()
    assert store.opened == 1
