"""The temporal split."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from reference_system.training.temporal_split import temporal_split

AS_OF = datetime(2025, 4, 6, tzinfo=UTC)
WEEK = timedelta(days=7)
SPLIT = temporal_split(AS_OF, train_days=28, test_days=7, label_delay=WEEK)


def test_the_last_test_label_is_mature_as_of_now():
    assert SPLIT.test.end + WEEK == AS_OF


def test_the_last_training_label_was_mature_when_the_test_window_began():
    assert SPLIT.train.end + WEEK == SPLIT.test.start


def test_the_windows_are_as_long_as_asked():
    assert SPLIT.train.end - SPLIT.train.start == timedelta(days=28)
    assert SPLIT.test.end - SPLIT.test.start == WEEK
