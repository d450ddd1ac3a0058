"""What drills send is what it claims to be."""

from __future__ import annotations

from collections import Counter

import pytest

from reference_system.errors import EventRejected
from reference_system.events import decode
from reference_system.proofs.drills.traffic import LAST_MOMENT, Traffic
from reference_system.use_cases import TOPICS, topic_named
from reference_system.use_cases.fraud.events import CHARGEBACKS, REVERSALS

EVENTS = Traffic(1).take(600)


def test_every_topic_has_traffic():
    assert {event.topic for event in EVENTS} == set(TOPICS)


def test_some_payments_are_disputed_twice_and_some_disputes_are_taken_back():
    traffic = Traffic(1).take(3_000)
    reports = [sent.event for sent in traffic if sent.topic == CHARGEBACKS]
    reversals = [sent.event for sent in traffic if sent.topic == REVERSALS]
    payments = Counter(each.transaction_id for each in reports)
    facts = {(each.chargeback_id, each.transaction_id, each.terminal_id, each.event_timestamp) for each in reports}

    assert sum(count > 1 for count in payments.values()) > 20
    assert len(reversals) > 50
    matched = [
        (each.chargeback_id, each.transaction_id, each.terminal_id, each.event_timestamp) in facts
        for each in reversals
    ]
    assert sum(matched) >= len(matched) - 3


def test_events_come_in_the_order_in_which_they_became_known():
    known = [event.known for event in EVENTS]

    assert known == sorted(known)


def test_every_event_survives_the_strict_decoder_under_its_own_key():
    for sent in EVENTS:
        message = sent.message()

        assert decode(sent.topic, message.value, now=LAST_MOMENT) == sent.event
        assert message.key == sent.topic.key_of(sent.event).encode()


def test_ids_are_unique_across_batches_but_for_the_duplicates():
    traffic = Traffic(2)
    sent = [event for _ in range(100) for event in traffic.with_trouble(7)]
    by_id: dict[tuple[str, str], set[bytes | None]] = {}
    for event in sent:
        by_id.setdefault((event.topic.name, event.event_id), set()).add(event.message().value)

    assert all(len(values) == 1 for values in by_id.values())
    assert len(by_id) < len(sent)


def test_some_of_the_traffic_is_late():
    traffic = Traffic(2)
    sent = [event for _ in range(100) for event in traffic.with_trouble(7)]

    assert Counter(event.event_id.endswith("-late") for event in sent)[True] > 5


def test_what_must_be_refused_is_refused():
    refused = Traffic(5).refused(2_000)

    assert len(refused) > 20
    for message in refused:
        with pytest.raises(EventRejected):
            decode(topic_named(message.topic), message.value, now=LAST_MOMENT)


def test_the_same_seed_gives_the_same_traffic_and_another_another():
    assert Traffic(3).with_trouble(200) == Traffic(3).with_trouble(200)
    assert Traffic(3).take(50) != Traffic(4).take(50)
