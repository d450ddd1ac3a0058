"""The running world: events are generated slice by slice and released when they are due.

In: the time to advance to, the scenarios, and a function that chooses pages. Out: every event up to that time.
Invariant: slices follow one another without gap or overlap, and generated events that are not due yet (a watch, the
next page, a chargeback of next week) are kept in `pending`, which a checkpoint can hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reference_system.event_time import MICROS_PER_DAY, MICROS_PER_SECOND, micros
from reference_system.settings import Settings
from reference_system.world.columns import (
    Chargebacks,
    PageRequests,
    Pages,
    PaymentColumns,
    Publications,
    Watches,
    distinct,
)
from reference_system.world.fraud.cards import Cards, genuine_payments, in_cents, make_cards
from reference_system.world.fraud.patterns import FraudPatterns
from reference_system.world.randomness import Stream, generator
from reference_system.world.recommendation.viewing import Viewing, make_viewing
from reference_system.world.scenarios import Run, Scenario, active_at

# Both divide a day. History is generated in few large slices; live slices are short, because a new scenario takes
# effect with the next one.
HISTORY_SLICE = 4 * 3_600 * MICROS_PER_SECOND
LIVE_SLICE = 300 * MICROS_PER_SECOND
INFLATION = 1.6
# A chargeback becomes known between one day and a little less than the label delay of seven days after the payment.
_SOONEST_DAYS, _LATEST_DAYS = 1.0, 6.9
# The share of frauds that are reported twice, and of genuine payments that are disputed by mistake; a mistake is
# reversed between two and fourteen days after the report.
_SECOND_SHARE, _MISTAKEN_SHARE = 0.03, 0.0002
_SECOND_WITHIN_DAYS = 2.0
_MENDED_DAYS = (2.0, 14.0)

Choose = Callable[[PageRequests], Pages]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """Generated events that are not due yet."""

    payments: PaymentColumns
    chargebacks: Chargebacks
    reversals: Chargebacks
    publications: Publications
    requests: PageRequests
    watches: Watches


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """The events of a time span; each kind is ordered by time."""

    payments: PaymentColumns
    chargebacks: Chargebacks
    reversals: Chargebacks
    publications: Publications
    pages: Pages
    watches: Watches


@dataclass(slots=True)
class World:
    """One world. `generated` is the end of the last slice, `pending` the events that are not due yet."""

    seed: int
    cards: Cards
    fraud: FraudPatterns
    viewing: Viewing
    generated: int
    pending: Pending

    def advance(self, until: int, slice_micros: int, choose: Choose, runs: Sequence[Run] = ()) -> Happened:
        """Every event before `until`: `generate`, then `release_cards` and `release_viewing`."""
        self.generate(until, slice_micros, runs)
        payments, chargebacks, publications, reversals = self.release_cards(until)
        pages, watches = self.release_viewing(until, choose, runs)
        return Happened(
            payments=payments,
            chargebacks=chargebacks,
            reversals=reversals,
            publications=publications,
            pages=pages,
            watches=watches,
        )

    def generate(self, until: int, slice_micros: int, runs: Sequence[Run] = ()) -> None:
        """Generate slices until they reach `until`."""
        while self.generated < until:
            start, end = self.generated, self.generated + slice_micros
            self.viewing.grow(start // MICROS_PER_DAY)
            payments = self._payments(start, end, active_at(runs, start))
            chargebacks, reversals = self._disputes(payments, start)
            before = self.pending
            self.pending = Pending(
                payments=PaymentColumns.joined([before.payments, payments]),
                chargebacks=Chargebacks.joined([before.chargebacks, chargebacks]).sorted(),
                reversals=Chargebacks.joined([before.reversals, reversals]).sorted(),
                publications=Publications.joined(
                    [before.publications, self.viewing.catalogue.publications(start, end)]
                ),
                requests=PageRequests.joined([before.requests, self.viewing.sessions(start, end)]),
                watches=before.watches,
            )
            self.generated = end

    def release_cards(self, until: int) -> tuple[PaymentColumns, Chargebacks, Publications, Chargebacks]:
        """Remove from `pending` the payments, chargebacks, publications and reversals before `until`; return them."""
        payments, later_payments = self.pending.payments.split(until)
        chargebacks, later_chargebacks = self.pending.chargebacks.split(until)
        publications, later_publications = self.pending.publications.split(until)
        reversals, later_reversals = self.pending.reversals.split(until)
        self.pending = replace(
            self.pending,
            payments=later_payments,
            chargebacks=later_chargebacks,
            publications=later_publications,
            reversals=later_reversals,
        )
        return payments, chargebacks, publications, reversals

    def release_viewing(self, until: int, choose: Choose, runs: Sequence[Run] = ()) -> tuple[Pages, Watches]:
        """The pages and watches before `until`: pages are chosen and viewers react until no request is left."""
        requests, watches = self.pending.requests, [self.pending.watches]
        pages: list[Pages] = []
        due, later = requests.sorted().split(until)
        while len(due):
            scenarios = active_at(runs, int(due.times[0]))
            shown = self._choose(due, choose, scenarios)
            seen, following = self.viewing.respond(shown, scenarios)
            pages.append(shown)
            watches.append(seen)
            due, rest = following.split(until)
            later = PageRequests.joined([later, rest])
        happened, to_come = Watches.joined(watches).sorted().split(until)
        self.pending = replace(self.pending, requests=later, watches=to_come)
        return Pages.joined(pages).sorted(), happened

    def _choose(self, due: PageRequests, choose: Choose, scenarios: dict[Scenario, int]) -> Pages:
        """Pages for the requests; while a video goes viral, many sessions begin with a link to it."""
        viral = self.viewing.viral_video(scenarios)
        if viral is None:
            return choose(due)
        followed, linked = self.viewing.from_outside(due, viral)
        asking = due.take(~followed)
        return Pages.joined([linked, choose(asking)]).sorted() if len(asking) else linked

    def _payments(self, start: int, end: int, scenarios: dict[Scenario, int]) -> PaymentColumns:
        """All payments of a slice, genuine and fraudulent."""
        genuine = genuine_payments(self.cards, self.seed, start, end)
        parts = [genuine, self.fraud.payments(start, end)]
        if Scenario.FRAUD_ATTACK in scenarios:
            parts.append(self.fraud.attack(scenarios[Scenario.FRAUD_ATTACK], start, end))
        payments = PaymentColumns.joined(parts).sorted()
        factor = INFLATION if Scenario.AMOUNT_INFLATION in scenarios else 1.0
        return replace(
            payments,
            times=distinct(payments.times),
            amounts=in_cents(payments.amounts * factor),
            frauds=payments.frauds | self.fraud.spoiled(payments, start),
        )

    def _disputes(self, payments: PaymentColumns, start: int) -> tuple[Chargebacks, Chargebacks]:
        """The chargebacks of a slice's payments, and their reversals.

        Every victim reports, some twice; some card holders dispute a genuine payment that they do not recognise.
        """
        victims = _reports(payments.take(payments.frauds), generator(self.seed, Stream.CHARGEBACKS, start))
        rng = generator(self.seed, Stream.DISPUTES, start)
        second = victims.take(rng.random(len(victims)) < _SECOND_SHARE)
        later = second.times + (rng.random(len(second)) * _SECOND_WITHIN_DAYS * MICROS_PER_DAY).astype(np.int64)
        latest = second.paid + round(_LATEST_DAYS * MICROS_PER_DAY)
        second = replace(second, times=np.minimum(later, latest), reports=second.reports + 1)
        genuine = payments.take(~payments.frauds)
        mistaken = _reports(genuine.take(rng.random(len(genuine)) < _MISTAKEN_SHARE), rng)
        mended = (rng.uniform(*_MENDED_DAYS, len(mistaken)) * MICROS_PER_DAY).astype(np.int64)
        reversals = replace(mistaken, times=mistaken.times + mended)
        return Chargebacks.joined([victims, second, mistaken]), reversals


def _reports(payments: PaymentColumns, rng: np.random.Generator) -> Chargebacks:
    """The first chargeback of each payment."""
    days = _SOONEST_DAYS + (_LATEST_DAYS - _SOONEST_DAYS) * rng.beta(1.5, 2.0, len(payments))
    return Chargebacks(
        times=payments.times + (days * MICROS_PER_DAY).astype(np.int64),
        paid=payments.times,
        customers=payments.customers,
        terminals=payments.terminals,
        reports=np.zeros(len(payments), np.int64),
    )


def make_world(settings: Settings) -> World:
    """The world at the start of its history."""
    cards = make_cards(settings)
    return World(
        seed=settings.seed,
        cards=cards,
        fraud=FraudPatterns(seed=settings.seed, cards=cards, begun={}),
        viewing=make_viewing(settings),
        generated=micros(settings.history_start),
        pending=Pending(
            payments=PaymentColumns.empty(),
            chargebacks=Chargebacks.empty(),
            reversals=Chargebacks.empty(),
            publications=Publications.empty(),
            requests=PageRequests.empty(),
            watches=Watches.empty(),
        ),
    )
