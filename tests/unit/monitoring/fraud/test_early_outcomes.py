from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from reference_system.arrays import Micros
from reference_system.event_time import MICROS_PER_DAY, moment_of
from reference_system.monitoring.fraud.early_outcomes import (
    EARLY_WINDOW_DAYS,
    MIN_REFERENCE_DAYS,
    NOT_REPORTED,
    EarlyOutcomes,
    early_outcomes,
)
from reference_system.settings import Settings
from reference_system.world.scenarios import Run, Scenario
from reference_system.world.simulation import HISTORY_SLICE, make_world

ATTACK_DAY = 60


@cache
def lived(seed: int, days: int, *, attacked: bool) -> tuple[int, Micros, Micros]:
    """A simulated world's first day, its payments and when each was reported (in the end)."""
    settings = Settings(_env_file=None, seed=seed, customers=3_000, terminals=6_000, viewers=50, videos=100)
    world = make_world(settings)
    start = world.generated
    runs = (Run(name=Scenario.FRAUD_ATTACK, started=moment_of(start + ATTACK_DAY * MICROS_PER_DAY)),)
    world.generate(start + days * MICROS_PER_DAY, HISTORY_SLICE, runs if attacked else ())
    payments, chargebacks, *_ = world.release_cards(start + days * MICROS_PER_DAY)
    reported = np.full(len(payments.times), NOT_REPORTED)
    for part in (chargebacks, world.pending.chargebacks):
        np.minimum.at(reported, np.searchsorted(payments.times, part.paid), part.times)
    return start, payments.times, reported


def look(world: tuple[int, Micros, Micros], day: float, *, learned_days_ago: float = 14.0) -> EarlyOutcomes:
    """What is to be seen at a moment, with a champion as old as an ordinary training leaves it."""
    start, times, reported = world
    now = start + int(day * MICROS_PER_DAY)
    happened = times < now
    known = np.where(reported <= now, reported, NOT_REPORTED)[happened]
    learned = now - int(learned_days_ago * MICROS_PER_DAY)
    return early_outcomes(times[happened], known, as_of=now, learned_until=learned)


def test_without_an_attack_one_look_in_a_hundred_is_an_alarm_at_most():
    looks = [look(lived(seed, 100, attacked=False), day) for seed in (1, 2, 3) for day in range(45, 100)]
    assert all(each.bound is not None for each in looks)
    # 165 looks at 1 %: two more by chance are within two standard errors.
    assert sum(each.alarming for each in looks) <= 4


def test_an_attack_does_not_become_usual_by_going_on():
    world = lived(1, 66, attacked=True)
    old, taught = look(world, 66), look(world, 66, learned_days_ago=0.0)
    assert old.alarming
    assert old.usual is not None
    assert taught.usual is not None
    assert taught.usual > old.usual


def test_what_was_taken_back_later_was_reported_at_the_time_and_is_no_more():
    start, times, reported = lived(1, 100, attacked=False)
    now = start + 60 * MICROS_PER_DAY
    times, reported = times[times < now], reported[times < now]
    reported = np.where(reported <= now, reported, NOT_REPORTED)
    never = np.full(len(times), NOT_REPORTED)
    plain = early_outcomes(times, reported, as_of=now, learned_until=now)
    assert early_outcomes(times, reported, never, as_of=now, learned_until=now) == plain
    # Taken back after a week: the payments of the last three days are younger, and so were earlier ones at that age.
    later = np.where(reported == NOT_REPORTED, NOT_REPORTED, times + 7 * MICROS_PER_DAY)
    assert early_outcomes(times, reported, later, as_of=now, learned_until=now) == plain
    at_once = early_outcomes(
        times, reported, np.where(reported <= now, now, NOT_REPORTED), as_of=now, learned_until=now
    )
    assert (at_once.reported, at_once.payments) == (0, plain.payments)
    assert at_once.days[:-1] == plain.days[:-1]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_an_attack_is_an_alarm_within_about_three_days(seed: int):
    world = lived(seed, 66, attacked=True)
    assert not look(world, ATTACK_DAY).alarming
    first = next(hours for hours in range(0, 144, 12) if look(world, ATTACK_DAY + hours / 24).alarming)
    assert 24 < first <= 84


def test_a_report_that_nobody_knew_of_yet_is_not_counted():
    start, times, reported = lived(1, 66, attacked=True)
    now = start + 62 * MICROS_PER_DAY
    seen = early_outcomes(
        times[times < now], reported[times < now], as_of=now, learned_until=now - 14 * MICROS_PER_DAY
    )
    honest = look((start, times, reported), 62)
    assert seen.reported == honest.reported
    assert seen.days == honest.days


def test_in_the_first_week_nothing_is_compared():
    day = np.arange(0, 8 * MICROS_PER_DAY, MICROS_PER_DAY // 100)
    unreported = np.full(len(day), NOT_REPORTED)
    now = (EARLY_WINDOW_DAYS + MIN_REFERENCE_DAYS - 1) * MICROS_PER_DAY
    found = early_outcomes(day, unreported, as_of=now, learned_until=now)
    assert (found.bound, found.alarming) == (None, False)


def test_an_empty_lake_has_no_outcomes_and_no_alarm():
    nothing = np.empty(0, np.int64)
    now = 20_000 * MICROS_PER_DAY
    found = early_outcomes(nothing, nothing, as_of=now, learned_until=now)
    assert (found.payments, found.reported, found.bound) == (0, 0, None)


def test_a_handful_of_reports_in_a_tiny_world_is_nobodys_attack():
    times = np.arange(0, 40 * MICROS_PER_DAY, MICROS_PER_DAY // 10)
    reported = np.full(len(times), NOT_REPORTED)
    young = times >= 37 * MICROS_PER_DAY
    reported[np.flatnonzero(young)[:9]] = 39 * MICROS_PER_DAY
    now = 40 * MICROS_PER_DAY
    found = early_outcomes(times, reported, as_of=now, learned_until=now)
    assert (found.reported, found.usual, found.alarming) == (9, 0.0, False)
