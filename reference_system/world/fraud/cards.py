"""Card holders and terminals, and their genuine payments.

In: the settings and a slice of time. Out: genuine payments.
Invariant: work grows with the number of payments and people, never with their product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reference_system.arrays import Floats
from reference_system.settings import Settings
from reference_system.world.columns import IdColumn, PaymentColumns
from reference_system.world.randomness import Stream, draw_indices, generator
from reference_system.world.rhythm import PAYMENT_RHYTHM

PAYMENTS_PER_CUSTOMER_DAY = 1.1
_TERMINALS_PER_REGION = 80
_NEARBY = 12
# The n-th favourite terminal of a card holder is used 1/n as often as the first.
_FAVOURITES = np.cumsum(1.0 / np.arange(1, _NEARBY + 1))
_TRAVEL_SHARE = 0.04
TYPICAL_AMOUNT = 32.0
_SPREAD_OF_CUSTOMERS, _SPREAD_OF_TERMINALS, _SPREAD_OF_PAYMENTS = 0.5, 0.3, 0.45
_SPREAD_OF_RATES = 0.7
_MAX_AMOUNT = 25_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cards:
    """The population: `rates` is cumulative, `nearby` has shape (customers, 12), most used first."""

    rates: Floats
    typical_amounts: Floats
    nearby: IdColumn
    price_levels: Floats

    @property
    def payments_per_day(self) -> float:
        """Genuine payments on an average day."""
        return len(self.rates) * PAYMENTS_PER_CUSTOMER_DAY

    def some_customers(self, rng: np.random.Generator, count: int) -> IdColumn:
        """Customers, drawn in proportion to their payment rates."""
        return draw_indices(rng, self.rates, count)

    def some_terminals(self, rng: np.random.Generator, customers: IdColumn) -> IdColumn:
        """A terminal for each customer: mostly a favourite near home, sometimes anywhere."""
        near = self.nearby[customers, draw_indices(rng, _FAVOURITES, len(customers))]
        anywhere = rng.integers(0, len(self.price_levels), len(customers))
        return np.where(rng.random(len(customers)) < _TRAVEL_SHARE, anywhere, near)

    def usual_amounts(self, rng: np.random.Generator, customers: IdColumn, terminals: IdColumn) -> Floats:
        """The usual amount of each customer at the terminal."""
        spread = rng.lognormal(-(_SPREAD_OF_PAYMENTS**2) / 2, _SPREAD_OF_PAYMENTS, len(customers))
        return self.typical_amounts[customers] * self.price_levels[terminals] * spread


def make_cards(settings: Settings) -> Cards:
    """The population of a seed."""
    rng = generator(settings.seed, Stream.CARDS)
    customers, terminals = settings.customers, settings.terminals
    regions = max(1, terminals // _TERMINALS_PER_REGION)
    homes = rng.integers(0, regions, customers)
    # Terminal t is in region t % regions; squaring makes the first terminals of each region the busy ones.
    sizes = (terminals - homes + regions - 1) // regions
    places = (sizes[:, None] * rng.random((customers, _NEARBY)) ** 2).astype(np.int64)
    return Cards(
        rates=np.cumsum(rng.lognormal(0.0, _SPREAD_OF_RATES, customers)),
        typical_amounts=TYPICAL_AMOUNT * rng.lognormal(0.0, _SPREAD_OF_CUSTOMERS, customers),
        nearby=homes[:, None] + regions * places,
        price_levels=rng.lognormal(0.0, _SPREAD_OF_TERMINALS, terminals),
    )


def genuine_payments(cards: Cards, seed: int, start: int, end: int) -> PaymentColumns:
    """The payments that card holders make in [start, end)."""
    rng = generator(seed, Stream.PAYMENTS, start)
    count = int(rng.poisson(cards.payments_per_day * PAYMENT_RHYTHM.mass(start, end)))
    times = PAYMENT_RHYTHM.moments(rng, count, start, end)
    customers = cards.some_customers(rng, count)
    terminals = cards.some_terminals(rng, customers)
    return PaymentColumns(
        times=times,
        customers=customers,
        terminals=terminals,
        amounts=cards.usual_amounts(rng, customers, terminals),
        frauds=np.zeros(count, np.bool_),
    )


def in_cents(amounts: Floats) -> Floats:
    """Amounts that a terminal accepts: at least a cent, bounded, two decimals."""
    return amounts.clip(0.01, _MAX_AMOUNT).round(2)
