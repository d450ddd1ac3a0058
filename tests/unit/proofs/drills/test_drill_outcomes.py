"""The drill's own book: what it expects, and that it notices every kind of difference."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from reference_system.features.stream.deduplication import Outcome
from reference_system.proofs.drills.outcomes import (
    Book,
    DrillFindings,
    differences,
    expected,
    lost_and_double,
)
from reference_system.proofs.drills.traffic import START, DrillEvent
from reference_system.proofs.kafka_raw_producer import Acknowledged
from reference_system.use_cases.fraud.events import TRANSACTIONS, ChargebackReported, Transaction


def payment(name: str, hours: float) -> DrillEvent:
    return DrillEvent(
        TRANSACTIONS,
        Transaction(
            schema_version=1,
            event_timestamp=START + timedelta(hours=hours),
            transaction_id=name,
            customer_id="c1",
            terminal_id="t1",
            amount=1.0,
        ),
    )


def booked(*events: DrillEvent, partition: int = 0, refused: int = 0) -> Book:
    """The events on one partition in this order, then bytes that are none."""
    places = [Acknowledged("transactions", partition, offset) for offset in range(len(events) + refused)]
    return Book(
        events=list(zip(places, events, strict=False)),
        refused=places[len(events) :],
    )


def found_as_expected(book: Book) -> DrillFindings:
    """What a faultless consumer would leave."""
    wanted = expected(book)
    rows = Counter(dict.fromkeys(book.identities(), 1))
    totals = Counter({("transactions", outcome): count for outcome, count in wanted.outcomes.items()})
    return DrillFindings(rows=rows, late=set(wanted.late), totals=totals)


MIXED = booked(payment("x1", 0), payment("x2", 30), payment("x1", 0), payment("x3", 5), payment("x4", 29), refused=2)


def test_each_record_has_the_outcome_that_its_partition_gives_it():
    wanted = expected(MIXED)

    assert wanted.outcomes == {
        Outcome.COUNTED: 3,
        Outcome.LATE: 1,
        Outcome.DUPLICATE: 1,
        Outcome.DEAD_LETTERED: 2,
    }
    assert wanted.late == {("transactions", "x3")}


@pytest.mark.parametrize(("hours", "late"), [(24.0, set()), (24.001, {("transactions", "x2")})])
def test_a_day_behind_is_in_time_and_more_is_late(hours, late):
    book = booked(payment("x1", 100), payment("x2", 100 - hours))

    assert expected(book).late == late


def test_the_order_of_one_partition_says_nothing_about_another():
    book = booked(payment("x1", 100), partition=0)
    book.events += booked(payment("x2", 1), partition=1).events

    assert not expected(book).late


def test_offsets_and_not_the_order_of_sending_decide():
    one, other = booked(payment("x1", 100), payment("x2", 1)).events
    book = Book(events=[other, one])

    assert expected(book).late == {("transactions", "x2")}


def test_a_label_is_late_by_when_it_was_known():
    chargeback = ChargebackReported(
        schema_version=1,
        event_timestamp=START,
        chargeback_id="b1",
        transaction_id="x1",
        customer_id="c1",
        terminal_id="t1",
        created_timestamp=START + timedelta(days=7),
    )

    assert DrillEvent(TRANSACTIONS, chargeback).known == START + timedelta(days=7)


def test_what_is_as_it_must_be_has_no_difference():
    found = found_as_expected(MIXED)

    assert differences(MIXED, found, {"transactions": 7}) == []
    assert lost_and_double(MIXED, found) == (set(), set())


def _without_x2(found: DrillFindings) -> DrillFindings:
    return msgspec.structs.replace(found, rows=Counter({i: n for i, n in found.rows.items() if i[1] != "x2"}))


def _with_x2_twice(found: DrillFindings) -> DrillFindings:
    return msgspec.structs.replace(found, rows=found.rows + Counter({("transactions", "x2"): 1}))


def _with_a_stranger(found: DrillFindings) -> DrillFindings:
    return msgspec.structs.replace(found, rows=found.rows + Counter({("transactions", "y1"): 1}))


def _with_x4_late(found: DrillFindings) -> DrillFindings:
    return msgspec.structs.replace(found, late=found.late | {("transactions", "x4")})


def _with_x3_in_time(found: DrillFindings) -> DrillFindings:
    return msgspec.structs.replace(found, late=set())


def _with_one_more_counted(found: DrillFindings) -> DrillFindings:
    return msgspec.structs.replace(found, totals=found.totals + Counter({("transactions", Outcome.COUNTED): 1}))


def _with_a_duplicate_counted(found: DrillFindings) -> DrillFindings:
    moved = Counter({("transactions", Outcome.COUNTED): 1})
    gone = Counter({("transactions", Outcome.DUPLICATE): 1})
    return msgspec.structs.replace(found, totals=found.totals + moved - gone)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_without_x2, "1 events are lost: transactions x2"),
        (_with_x2_twice, "1 events are counted twice: transactions x2"),
        (_with_a_stranger, "although nobody sent them: transactions y1"),
        (_with_x4_late, "marked as late and in time: transactions x4"),
        (_with_x3_in_time, "late and not marked as late: transactions x3"),
        (_with_one_more_counted, "7 records are acknowledged and 8 have an outcome"),
        (_with_a_duplicate_counted, "4 records are counted, 3 must be"),
    ],
)
def test_every_kind_of_difference_is_noticed_and_named(damage, sentence):
    problems = differences(MIXED, damage(found_as_expected(MIXED)), {"transactions": 7})

    assert any(sentence in problem for problem in problems), problems


def test_where_the_producer_sent_again_only_lost_and_double_are_judged():
    found = found_as_expected(MIXED)
    totals = found.totals + Counter({("transactions", Outcome.DUPLICATE): 1})

    assert differences(MIXED, msgspec.structs.replace(found, totals=totals), {"transactions": 8}) == []


def test_many_ids_are_counted_and_some_named():
    events = [payment(f"x{number:03d}", number) for number in range(50)]
    book = booked(*events)
    nothing = DrillFindings(rows=Counter(), late=set(), totals=Counter())

    (lost, *_) = differences(book, nothing, {"transactions": 50})

    assert lost.startswith("50 events are lost: transactions x000, ")
    assert lost.endswith("and 30 more")
