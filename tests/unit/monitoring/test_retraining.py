from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from reference_system.monitoring.report.record import Finding
from reference_system.monitoring.retraining import PACE, Past, rule, skip_scheduled, wait_of

NOW = datetime(2025, 4, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)
DRIFT = Finding(use_case="fraud", kind="drift", text="drift in amount", next_command="x", trigger="drift")
MISSED = Finding(use_case="fraud", kind="outcomes", text="frauds missed", next_command="x", trigger="performance")
NEWS = Finding(use_case="fraud", kind="outcomes", text="more frauds", next_command="x")
REFUSED = Finding(use_case="events", kind="schema", text="200 records refused", next_command="x")
DEGRADED = Finding(use_case="recommendation", kind="quality", text="9% by a rule", next_command="x")


def trigger_of(*findings, use_case="fraud", **past):
    return rule(use_case, findings, Past(champion="3", **past), now=NOW).trigger


@pytest.mark.parametrize(
    ("findings", "expected"),
    [
        ([], None),
        ([NEWS], None),
        ([DRIFT], "drift"),
        ([MISSED], "performance"),
        ([DRIFT, MISSED], "performance"),  # what is worse comes before what is different
        ([DRIFT, DEGRADED], "drift"),  # the other use case's fault
    ],
)
def test_what_calls_for_a_training(findings, expected):
    assert trigger_of(*findings) == expected
    assert trigger_of(*findings, use_case="recommendation") is None


def test_what_was_learned_from_broken_rows_would_be_broken():
    decision = rule("fraud", [MISSED, REFUSED], Past(champion="3"), now=NOW)
    assert decision.trigger is None
    assert decision.reason == "the data are at fault and come first: 200 records refused (frauds missed)"


def test_a_release_that_is_on_is_waited_for():
    decision = rule("fraud", [MISSED], Past(champion="3", busy="the release of version 4 (canary)"), now=NOW)
    assert (decision.trigger, decision.reason) == (
        None,
        "the release of version 4 (canary) is under way (frauds missed)",
    )


def test_without_a_champion_there_is_nothing_to_replace():
    assert rule("fraud", [DRIFT], Past(champion=None), now=NOW).trigger is None


@pytest.mark.parametrize(
    ("days_ago", "fruitless", "expected"),
    [
        (1.9, 0, None),  # the last one ended in a release: two days all the same
        (2.0, 0, "drift"),
        (1.9, 1, None),
        (2.0, 1, "drift"),
        (3.9, 2, None),
        (4.0, 2, "drift"),
        (15.9, 9, None),  # never longer than sixteen days
        (16.0, 9, "drift"),
    ],
)
def test_alarms_are_answered_every_two_days_and_less_often_where_that_led_to_nothing(days_ago, fruitless, expected):
    assert trigger_of(DRIFT, last=NOW - days_ago * DAY, fruitless=fruitless) == expected


def test_a_refusal_for_time_says_until_when():
    past = Past(champion="3", last=NOW - DAY, fruitless=2)
    decision = rule("fraud", [DRIFT], past, now=NOW)
    assert decision.not_before == NOW + 3 * DAY == past.last + wait_of(past)
    assert "1.0 days ago and led to nothing 2 times; not before 04-13 12:00" in decision.reason


def test_an_alarm_that_never_ends_is_answered_a_bounded_number_of_times():
    """However often the policy is asked in thirty days of a false alarm, and nothing comes of any training."""
    past, trained = Past(champion="3"), []
    for hour in range(0, 30 * 24, 6):
        now = NOW + timedelta(hours=hour)
        if rule("fraud", [DRIFT], past, now=now).trigger:
            trained.append(now)
            past = Past(champion="3", last=now, fruitless=len(trained))
    assert [(moment - NOW) / DAY for moment in trained] == [0, 2, 6, 14]


@pytest.mark.parametrize(
    ("past", "skipped"),
    [
        ({}, False),  # no training has left a candidate
        ({"candidate": NOW - PACE + timedelta(minutes=1)}, True),
        ({"candidate": NOW - PACE}, False),
        ({"last": NOW - timedelta(hours=1)}, False),  # an alarm's training that failed: nobody has anything to look at
        ({"busy": "the release of version 4 (canary)"}, True),
        ({"candidate": NOW, "champion": None}, False),  # nothing answers
    ],
)
def test_a_scheduled_training_is_left_out_soon_after_another_and_during_a_release(past, skipped):
    assert (skip_scheduled(Past(**({"champion": "3"} | past)), now=NOW) is not None) == skipped


def test_why_a_scheduled_training_is_left_out_is_said_in_the_same_words_for_as_long_as_it_holds():
    past = Past(champion="3", candidate=NOW)
    (said,) = {skip_scheduled(past, now=NOW + timedelta(hours=hours)) for hours in range(0, 72, 6)}
    assert said == (
        "the last training is of 04-10 12:00, less than 3 days ago;"
        " not before 04-13 12:00, unless an alarm says otherwise"
    )


def test_an_alarm_does_not_wait_for_the_pace_of_the_schedule():
    assert trigger_of(DRIFT, candidate=NOW - timedelta(hours=1)) == "drift"


def test_a_schedule_trains_at_most_once_in_three_days_however_often_it_asks_and_whatever_else_trains():
    past, scheduled = Past(champion="3"), []
    others = {NOW + timedelta(days=4, hours=6), NOW + timedelta(days=5)}
    for hour in range(0, 15 * 24, 6):
        now = NOW + timedelta(hours=hour)
        asked = skip_scheduled(past, now=now) is None
        if asked or now in others:
            past = Past(champion="3", candidate=now)
        scheduled += [(now - NOW) / DAY] if asked else []
    assert scheduled == [0, 3, 8, 11, 14]
