from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from world_weeks import DAYS, Weeks, four_weeks

from reference_system.event_time import MICROS_PER_DAY, MICROS_PER_SECOND
from reference_system.settings import Settings
from reference_system.use_cases.fraud.events import CHARGEBACKS
from reference_system.use_cases.fraud.labels import LABEL_DELAY_DAYS
from reference_system.world import simulation
from reference_system.world.columns import Chargebacks
from reference_system.world.fraud.cards import PAYMENTS_PER_CUSTOMER_DAY, make_cards
from reference_system.world.fraud.patterns import FraudPatterns
from reference_system.world.history import generate_block
from reference_system.world.records import record_fields
from reference_system.world.rhythm import PAYMENT_RHYTHM, VIEWING_RHYTHM
from reference_system.world.simulation import HISTORY_SLICE, LIVE_SLICE, Happened, make_world

DAY = MICROS_PER_DAY


@pytest.fixture
def weeks() -> Weeks:
    return four_weeks()


@pytest.fixture
def default_settings() -> Settings:
    return Settings(_env_file=None)


def test_there_are_about_five_and_a_half_thousand_payments_a_day(weeks: Weeks):
    assert len(weeks.happened.payments) / DAYS == pytest.approx(5_000 * PAYMENTS_PER_CUSTOMER_DAY, rel=0.03)


def test_payments_scale_with_the_customers(default_settings):
    half = make_world(default_settings.model_copy(update={"customers": 2_500}))
    end = half.generated + 7 * DAY
    half.generate(end, HISTORY_SLICE)
    payments = half.release_cards(end)[0]
    assert len(payments) / 7 == pytest.approx(2_500 * PAYMENTS_PER_CUSTOMER_DAY, rel=0.06)
    assert payments.frauds.mean() == pytest.approx(0.0085, rel=0.7)


def test_payments_follow_the_hours_of_the_day(weeks: Weeks):
    by_hour = np.bincount(weeks.hours(weeks.happened.payments.times), minlength=24)
    assert by_hour[12] > 10 * by_hour[3]
    assert np.corrcoef(by_hour, np.diff(PAYMENT_RHYTHM.knots[:25]))[0, 1] > 0.99


def test_payments_follow_the_days_of_the_week(weeks: Weeks):
    by_day = np.bincount(weeks.weekdays(weeks.happened.payments.times), minlength=7)
    assert by_day.argmax() == 5
    assert by_day.argmin() == 6


def test_paying_and_viewing_have_different_rhythms(weeks: Weeks):
    paying = np.bincount(weeks.hours(weeks.happened.payments.times), minlength=24)
    viewing = np.bincount(weeks.hours(weeks.happened.pages.times), minlength=24)
    assert 11 <= paying.argmax() <= 13
    assert 20 <= viewing.argmax() <= 22


@pytest.mark.parametrize("rhythm", [PAYMENT_RHYTHM, VIEWING_RHYTHM])
def test_the_mass_of_a_week_is_seven_days_and_adds_up(rhythm):
    start = 1_736_121_600 * MICROS_PER_SECOND  # a Monday
    steps = [start + n * DAY // 5 for n in range(36)]
    assert rhythm.mass(start, start + 7 * DAY) == pytest.approx(7.0)
    assert sum(rhythm.mass(a, b) for a, b in pairwise(steps)) == pytest.approx(7.0)


def test_moments_lie_within_their_slice_and_are_distinct():
    start = 1_736_121_600 * MICROS_PER_SECOND
    times = PAYMENT_RHYTHM.moments(np.random.default_rng(1), 20_000, start, start + LIVE_SLICE)
    assert times.min() >= start
    assert times.max() < start + LIVE_SLICE
    assert (np.diff(times) > 0).all()


def test_customers_differ_in_how_often_and_how_much_they_pay(weeks: Weeks):
    payments = weeks.happened.payments.take(~weeks.happened.payments.frauds)
    counts = np.bincount(payments.customers, minlength=5_000)
    often = np.flatnonzero(counts >= 20)
    means = np.bincount(payments.customers, payments.amounts, minlength=5_000)[often] / counts[often]
    assert np.percentile(counts, 95) > 5 * max(np.percentile(counts, 10), 1)
    assert np.percentile(means, 90) > 2 * np.percentile(means, 10)


def test_customers_pay_mostly_at_a_few_places(weeks: Weeks):
    payments = weeks.happened.payments.take(~weeks.happened.payments.frauds)
    busiest = np.bincount(payments.customers).argmax()
    places = np.bincount(payments.terminals[payments.customers == busiest])
    assert np.sort(places)[::-1][:5].sum() > 0.5 * places.sum()


def test_nearby_terminals_lie_in_one_region(default_settings):
    cards = make_cards(default_settings)
    regions = default_settings.terminals // 80
    assert (cards.nearby % regions == cards.nearby[:, :1] % regions).all()
    assert cards.nearby.max() < default_settings.terminals


def test_amounts_have_cents_and_bounds(weeks: Weeks):
    amounts = weeks.happened.payments.amounts
    assert (amounts == np.round(amounts, 2)).all()
    assert amounts.min() >= 0.01
    assert amounts.max() <= 25_000


def test_a_little_less_than_one_payment_in_a_hundred_is_a_fraud(weeks: Weeks):
    frauds = weeks.happened.payments.frauds
    assert 35 <= frauds.sum() / DAYS <= 75
    assert 0.006 <= frauds.mean() <= 0.014


def test_frauds_come_in_every_pattern(default_settings):
    cards = make_cards(default_settings)
    patterns = FraudPatterns(seed=7, cards=cards, begun={})
    days = range(20_100, 20_160)
    thefts = [patterns.payments(day * DAY, (day + 1) * DAY) for day in days]
    amounts = np.concatenate([part.amounts for part in thefts])
    assert (amounts < 5).sum() > 60  # card testing
    assert (amounts > 220).sum() > 240  # large amounts
    testing = [part.take(part.amounts < 5) for part in thefts]
    busiest = max(testing, key=len)
    assert np.ptp(np.sort(busiest.times)[:4]) < 10 * 60 * MICROS_PER_SECOND


def test_stolen_cards_spend_several_times_what_their_holders_do(default_settings):
    cards = make_cards(default_settings)
    patterns = FraudPatterns(seed=7, cards=cards, begun={})
    thefts = [patterns.payments(day * DAY, (day + 1) * DAY) for day in range(20_100, 20_160)]
    customers = np.concatenate([part.customers for part in thefts])
    amounts = np.concatenate([part.amounts for part in thefts])
    repeated = np.isin(customers, np.flatnonzero(np.bincount(customers) >= 5)) & (amounts > 5)
    factors = amounts[repeated] / cards.typical_amounts[customers[repeated]]
    assert 2.5 < np.median(factors) < 6


def test_spoiled_terminals_turn_most_of_their_payments_into_frauds_and_then_stop(default_settings):
    world = make_world(default_settings)
    start = world.generated
    world.generate(start + 10 * DAY, HISTORY_SLICE)
    payments = world.release_cards(start + 10 * DAY)[0]
    day = start // DAY
    episodes = [world.fraud._begin(earlier) for earlier in range(day - 45, day)]
    terminal, since, until = max(
        (
            (terminal, since, until)
            for episode in episodes
            for terminal, since, until in zip(episode.terminals, episode.since, episode.until, strict=True)
            if until > start + 8 * DAY
        ),
        key=lambda spoiled: (payments.terminals == spoiled[0]).sum(),
    )
    within = (payments.terminals == terminal) & (payments.times >= since) & (payments.times < until)
    assert within.sum() > 10
    assert payments.frauds[within].mean() > 0.6
    lengths = np.concatenate([episode.until - episode.since for episode in episodes]) / DAY
    assert lengths.min() >= 21
    assert lengths.max() <= 45


def test_the_strength_of_patterns_changes_from_season_to_season(default_settings):
    patterns = FraudPatterns(seed=7, cards=make_cards(default_settings), begun={})
    seasons = np.array([patterns._season(day) for day in range(20_000, 20_400, 10)])
    assert (seasons[:, 2] == 0).any()  # card testing has quiet seasons
    assert seasons.mean(axis=0) == pytest.approx(1.0, abs=0.25)
    assert seasons.std(axis=0).min() > 0.2


def test_every_fraud_is_disputed_between_one_day_and_the_label_delay(weeks: Weeks):
    chargebacks = weeks.happened.chargebacks
    days = (chargebacks.times - chargebacks.paid) / DAY
    assert days.min() >= 1.0
    assert days.max() < LABEL_DELAY_DAYS
    assert days.std() > 0.8
    assert frauds_of(weeks) <= set(disputes_of(weeks).paid.tolist())


def disputes_of(weeks: Weeks) -> Chargebacks:
    """Everything that was reported or will be."""
    return Chargebacks.joined([weeks.happened.chargebacks, weeks.world.pending.chargebacks])


def frauds_of(weeks: Weeks) -> set[int]:
    """The moments of the frauds."""
    return set(weeks.happened.payments.times[weeks.happened.payments.frauds].tolist())


def test_a_few_frauds_are_reported_a_second_time_after_the_first(weeks: Weeks):
    disputes = disputes_of(weeks)
    second = disputes.take(disputes.reports == 1)
    assert 0.015 < len(second) / len(frauds_of(weeks)) < 0.045
    first = dict(
        zip(disputes.paid[disputes.reports == 0].tolist(), disputes.times[disputes.reports == 0], strict=True)
    )
    assert all(first[paid] <= time for paid, time in zip(second.paid.tolist(), second.times, strict=True))
    ids = record_fields(weeks.happened, weeks.world.viewing.catalogue)[CHARGEBACKS]["chargeback_id"].tolist()
    assert len(set(ids)) == len(ids)
    assert sum(name.endswith("-2") for name in ids) == (weeks.happened.chargebacks.reports == 1).sum()


def test_a_genuine_payment_that_is_disputed_is_a_mistake_that_is_mended(weeks: Weeks):
    disputes, payments = disputes_of(weeks), weeks.happened.payments
    mistaken = disputes.take(~np.isin(disputes.paid, payments.times[payments.frauds]))
    assert 0.0001 < len(mistaken) / (~payments.frauds).sum() < 0.0003
    mended = Chargebacks.joined([weeks.happened.reversals, weeks.world.pending.reversals])
    assert sorted(mended.paid.tolist()) == sorted(mistaken.paid.tolist())
    reported = dict(zip(mistaken.paid.tolist(), mistaken.times.tolist(), strict=True))
    days = (
        np.array([time - reported[paid] for paid, time in zip(mended.paid.tolist(), mended.times, strict=True)]) / DAY
    )
    assert days.min() >= 2.0
    assert days.max() <= 14.0


def test_second_reports_and_mistakes_change_nothing_else(default_settings, monkeypatch):
    def lived() -> Happened:
        world = make_world(default_settings.model_copy(update={"customers": 1_000}))
        return generate_block(world, world.generated + 10 * DAY)

    with_them = lived()
    monkeypatch.setattr(simulation, "_SECOND_SHARE", 0.0)
    monkeypatch.setattr(simulation, "_MISTAKEN_SHARE", 0.0)
    without = lived()
    assert len(without.reversals) == 0
    assert len(without.chargebacks) < len(with_them.chargebacks)
    for kind in ("payments", "publications", "pages", "watches"):
        one, other = getattr(with_them, kind).pack(), getattr(without, kind).pack()
        assert one == other, kind
    assert set(without.chargebacks.times.tolist()) <= set(with_them.chargebacks.times.tolist())


def test_a_chargeback_names_the_customer_and_terminal_of_its_payment(weeks: Weeks):
    payments, chargebacks = weeks.happened.payments, weeks.happened.chargebacks
    rows = np.searchsorted(payments.times, chargebacks.paid)
    assert (payments.times[rows] == chargebacks.paid).all()
    assert (payments.customers[rows] == chargebacks.customers).all()
    assert (payments.terminals[rows] == chargebacks.terminals).all()
