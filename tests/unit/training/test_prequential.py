"""Prequential folds: nothing in a fold's training is younger than its test, or known after it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_system.event_time import MICROS_PER_DAY as DAY
from reference_system.training.prequential import Fold, Protocol, prequential_folds

PROTOCOLS = st.builds(
    Protocol,
    train_days=st.integers(1, 30),
    delay_days=st.integers(0, 14),
    test_days=st.integers(1, 14),
    folds=st.integers(1, 6),
)


@given(PROTOCOLS, st.integers(1, 120), st.integers(-400, 400))
def test_no_fold_sees_the_future_or_leaves_the_window(protocol, days, first):
    start, end = first * DAY, (first + days) * DAY
    found = prequential_folds(start, end, protocol)
    delay = 0 if found.shortened else protocol.delay_days * DAY
    assert found.folds
    for fold in found.folds:
        assert start <= fold.train_start < fold.train_end <= fold.test_start < fold.test_end <= end
        assert fold.test_start - fold.train_end == delay
    assert found.folds[-1].test_end == end


@given(PROTOCOLS, st.integers(1, 120))
def test_tests_follow_one_another_without_a_gap_or_an_overlap(protocol, days):
    folds = prequential_folds(0, days * DAY, protocol).folds
    assert all(one.test_end == other.test_start for one, other in pairwise(folds))


@given(PROTOCOLS, st.integers(1, 120))
def test_there_are_as_many_folds_as_fit_and_no_more_than_asked_for(protocol, days):
    found = prequential_folds(0, days * DAY, protocol)
    fitting = max(0, (days - protocol.days) // protocol.test_days + 1)
    assert (found.shortened is not None) == (fitting == 0)
    if fitting:
        assert len(found.folds) == min(protocol.folds, fitting)


def test_four_weeks_hold_two_weekly_folds():
    protocol = Protocol(train_days=7, delay_days=7, test_days=7, folds=3)
    folds = prequential_folds(0, 28 * DAY, protocol).folds
    assert folds == (Fold(0, 7 * DAY, 14 * DAY, 21 * DAY), Fold(7 * DAY, 14 * DAY, 21 * DAY, 28 * DAY))


def test_a_window_without_room_for_the_delay_is_cut_without_it_and_says_so():
    found = prequential_folds(0, 8 * DAY, Protocol(train_days=7, delay_days=7, test_days=7, folds=3))
    assert found.folds == (Fold(0, 4 * DAY, 4 * DAY, 6 * DAY), Fold(2 * DAY, 6 * DAY, 6 * DAY, 8 * DAY))
    assert "8 days hold no fold of 21 days" in found.shortened


@pytest.mark.parametrize("days", [21, 27])
def test_between_three_and_four_weeks_there_is_one_fold_at_the_end(days):
    (fold,) = prequential_folds(0, days * DAY, Protocol(train_days=7, delay_days=7, test_days=7, folds=3)).folds
    assert fold == Fold((days - 21) * DAY, (days - 14) * DAY, (days - 7) * DAY, days * DAY)
