"""Fraud episodes.

Large amounts on stolen numbers, stolen cards that are used for days, bursts of tiny payments that test stolen cards,
and compromised terminals whose payments are fraudulent for weeks. The number of episodes of each kind that begin on a
day varies by season, so models become outdated.

In: the population and a slice of time. Out: the payments of thieves; the payments that a terminal makes fraudulent.
Invariant: the episodes that begin on a day depend on the seed and that day alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats, Micros
from reference_system.event_time import MICROS_PER_DAY, MICROS_PER_SECOND
from reference_system.world.columns import IdColumn, PaymentColumns
from reference_system.world.fraud.cards import TYPICAL_AMOUNT, Cards, in_cents
from reference_system.world.randomness import Stream, generator

_MINUTE = 60 * MICROS_PER_SECOND
# Episodes that begin on an average day with 5,500 payments; in proportion for larger and smaller worlds.
_REFERENCE_PAYMENTS = 5_500.0
_LARGE, _STOLEN, _TESTING, _TERMINALS = range(4)
_EPISODES_PER_DAY = (7.5, 1.5, 0.55, 0.46)
_SEASON_DAYS = 10
_QUIET_SHARE = 0.3  # of the seasons, which have no card testing
_LONGEST_CARD_DAYS = 6
_LONGEST_TERMINAL_DAYS = 45
_SPOILED_SHARE = 0.9
# The attack uses new cards under invented names; each pays a few times, on one day.
_ATTACK_PAYMENTS_A_CARD = 2.5
_ATTACK_FACTOR = 4.0  # attack payments for each ordinary fraud
_ORDINARY_FRAUDS = 50.0
_ATTACK_SPREAD = 0.5  # of the logarithm of the amounts, a little less than for all payments


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """The episodes of one day: thieves' payments, and terminals that are compromised from `since` to `until`."""

    payments: PaymentColumns
    terminals: IdColumn
    since: Micros
    until: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudPatterns:
    """All patterns of one world; `begun` caches the episodes of recent days."""

    seed: int
    cards: Cards
    begun: dict[int, Episodes]

    @property
    def scale(self) -> float:
        """The size of this world, 1 for the default one."""
        return self.cards.payments_per_day / _REFERENCE_PAYMENTS

    def payments(self, start: int, end: int) -> PaymentColumns:
        """The thieves' payments in [start, end), which lies within one day."""
        day = start // MICROS_PER_DAY
        parts = [self._begin(earlier).payments for earlier in range(day - _LONGEST_CARD_DAYS, day + 1)]
        return PaymentColumns.joined([part.take((part.times >= start) & (part.times < end)) for part in parts])

    def spoiled(self, payments: PaymentColumns, start: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which payments, of the slice that begins at `start`, are frauds because of a compromised terminal."""
        since = np.full(len(self.cards.price_levels), np.iinfo(np.int64).max)
        until = np.zeros(len(since), np.int64)
        day = start // MICROS_PER_DAY
        for earlier in range(day - _LONGEST_TERMINAL_DAYS, day + 1):
            episodes = self._begin(earlier)
            since[episodes.terminals] = episodes.since
            until[episodes.terminals] = episodes.until
        rng = generator(self.seed, Stream.TERMINAL_FRAUD, start)
        within = (since[payments.terminals] <= payments.times) & (payments.times < until[payments.terminals])
        return within & (rng.random(len(payments)) < _SPOILED_SHARE)

    def attack(self, begun: int, start: int, end: int) -> PaymentColumns:
        """The scenario `fraud-attack`: new cards pay ordinary amounts, at any terminal.

        The payments of [start, end), which lies within one day; `begun` is when the scenario began.
        """
        rng = generator(self.seed, Stream.ATTACK, begun, start)
        a_day = _ATTACK_FACTOR * _ORDINARY_FRAUDS * self.scale
        count = int(rng.poisson(a_day * (end - start) / MICROS_PER_DAY))
        cards_a_day = max(1, round(a_day / _ATTACK_PAYMENTS_A_CARD))
        # Card numbers continue after those of the card holders; every day has new ones.
        first = len(self.cards.rates) + (start // MICROS_PER_DAY - begun // MICROS_PER_DAY) * cards_a_day
        return _thefts(
            rng.integers(start, end, count),
            rng.integers(first, first + cards_a_day, count),
            rng.integers(0, len(self.cards.price_levels), count),
            rng.lognormal(np.log(TYPICAL_AMOUNT), _ATTACK_SPREAD, count),
        )

    def _begin(self, day: int) -> Episodes:
        """The episodes that begin on a day, counted from 1970."""
        if day not in self.begun:
            for old in [known for known in self.begun if known < day - _LONGEST_TERMINAL_DAYS]:
                del self.begun[old]
            self.begun[day] = self._draw(day)
        return self.begun[day]

    def _draw(self, day: int) -> Episodes:
        rng = generator(self.seed, Stream.EPISODES, day)
        large, stolen, testing, terminals = rng.poisson(self._season(day) * _EPISODES_PER_DAY * self.scale)
        since = _moments_of(rng, day, terminals)
        lengths = rng.uniform(21, _LONGEST_TERMINAL_DAYS, terminals) * MICROS_PER_DAY
        return Episodes(
            payments=PaymentColumns.joined(
                [
                    _large_amounts(self.cards, rng, day, large),
                    _stolen_cards(self.cards, rng, day, stolen),
                    _card_testing(self.cards, rng, day, testing),
                ]
            ),
            terminals=self.cards.some_terminals(rng, self.cards.some_customers(rng, terminals)),
            since=since,
            until=since + lengths.astype(np.int64),
        )

    def _season(self, day: int) -> Floats:
        """The strength of each pattern in the season of this day; 1 on average."""
        rng = generator(self.seed, Stream.SEASONS, day // _SEASON_DAYS)
        strength = rng.gamma(6.0, 1.0 / 6.0, len(_EPISODES_PER_DAY))
        strength[_TESTING] *= (rng.random() > _QUIET_SHARE) / (1.0 - _QUIET_SHARE)
        return strength


def _large_amounts(cards: Cards, rng: np.random.Generator, day: int, count: int) -> PaymentColumns:
    """Single purchases with a stolen number, larger than most."""
    customers = cards.some_customers(rng, count)
    terminals = rng.integers(0, len(cards.price_levels), count)
    return _thefts(_moments_of(rng, day, count), customers, terminals, rng.lognormal(np.log(300.0), 0.4, count))


def _stolen_cards(cards: Cards, rng: np.random.Generator, day: int, count: int) -> PaymentColumns:
    """A thief spends three to five times as much as the card's holder, for some days."""
    days = rng.uniform(2, _LONGEST_CARD_DAYS, count)
    sizes = 1 + rng.poisson(1.6 * days)
    holders = np.repeat(cards.some_customers(rng, count), sizes)
    begins = np.repeat(_moments_of(rng, day, count), sizes)
    times = begins + (np.repeat(days, sizes) * rng.random(len(holders)) * MICROS_PER_DAY).astype(np.int64)
    terminals = rng.integers(0, len(cards.price_levels), len(holders))
    amounts = cards.usual_amounts(rng, holders, terminals) * rng.uniform(3, 5, len(holders))
    return _thefts(times, holders, terminals, amounts)


def _card_testing(cards: Cards, rng: np.random.Generator, day: int, count: int) -> PaymentColumns:
    """Many tiny payments within minutes, on one or two terminals, with a handful of cards."""
    sizes = rng.integers(8, 19, count)
    bursts = np.repeat(np.arange(count), sizes)
    lengths = np.repeat(rng.uniform(2, 10, count), sizes)
    begins = np.repeat(_moments_of(rng, day, count), sizes)
    hands = cards.some_customers(rng, 4 * count).reshape(count, 4)
    places = rng.integers(0, len(cards.price_levels), (count, 2))
    total = len(bursts)
    return _thefts(
        begins + (lengths * rng.random(total) * _MINUTE).astype(np.int64),
        hands[bursts, rng.integers(0, 4, total)],
        places[bursts, rng.integers(0, 2, total)],
        rng.uniform(0.5, 5.0, total),
    )


def _moments_of(rng: np.random.Generator, day: int, count: int) -> Micros:
    """Uniform times of the day."""
    return day * MICROS_PER_DAY + rng.integers(0, MICROS_PER_DAY, count)


def _thefts(times: Micros, customers: IdColumn, terminals: IdColumn, amounts: Floats) -> PaymentColumns:
    return PaymentColumns(
        times=times,
        customers=customers,
        terminals=terminals,
        amounts=in_cents(amounts),
        frauds=np.ones(len(times), np.bool_),
    )
