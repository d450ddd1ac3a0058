"""The boundary: each kind of malformed bytes is refused with a reason, and nothing valid is."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_events import EVENTS, NOW, TOPIC_NAMES, example

from reference_system.events import Refusal, encode
from reference_system.ingestion.decode import KafkaRecord, decode_records
from reference_system.proofs.drills.malformed import Malformed, good_transaction, malformed
from reference_system.use_cases import TOPICS, topic_named

BY_NAME = {topic.name: topic for topic in TOPICS}
GOOD = encode(example("transactions"))
MALFORMED = malformed(NOW)


def record(
    value: bytes | None, *, topic: str = "transactions", offset: int = 0, key: bytes = b"c000001"
) -> KafkaRecord:
    return KafkaRecord(topic=topic, partition=0, offset=offset, produced_ms=0, key=key, value=value)


def record_of(topic: str, event, value: bytes) -> KafkaRecord:
    return record(value, topic=topic, key=topic_named(topic).key_of(event).encode())


@pytest.mark.parametrize("message", MALFORMED, ids=[each.name for each in MALFORMED])
def test_malformed_messages_are_refused_with_their_reason_and_kept(message: Malformed):
    (decoded,) = decode_records([record(message.value, topic=message.topic, key=message.key)], BY_NAME, now=NOW)
    assert decoded.event is None
    assert decoded.reason.startswith(f"{message.topic}: ")
    assert decoded.error_class == message.kind
    assert decoded.record.value == message.value


def test_what_the_malformed_messages_are_made_from_is_valid():
    event = good_transaction(1, NOW)
    (decoded,) = decode_records([record_of("transactions", event, encode(event))], BY_NAME, now=NOW)
    assert decoded.event == event, decoded.reason


def test_every_kind_of_refusal_has_a_malformed_message_and_no_two_have_one_name():
    assert {each.kind for each in MALFORMED} == set(Refusal)
    assert len({each.name for each in MALFORMED}) == len(MALFORMED)


def test_an_event_under_the_key_of_another_entity_or_none_is_refused():
    for key in (b"c000002", b"", None):
        (decoded,) = decode_records([record(GOOD, key=key)], BY_NAME, now=NOW)
        assert decoded.error_class == Refusal.WRONG_KEY
        assert "customer_id" in decoded.reason


def test_one_refused_record_does_not_stop_the_batch():
    values = [GOOD, b"nonsense", GOOD]
    decoded = decode_records([record(value, offset=n) for n, value in enumerate(values)], BY_NAME, now=NOW)
    assert [each.event is None for each in decoded] == [False, True, False]
    assert [each.record.offset for each in decoded] == [0, 1, 2]


@pytest.mark.parametrize("topic", TOPIC_NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_valid_event_is_taken_for_one_with_a_repeated_key(topic: str, data: st.DataObject):
    event = data.draw(EVENTS[topic])
    # Other producers write other, equally valid JSON: spaces, and escapes for everything beyond ASCII.
    spaced = json.dumps(json.loads(encode(event)), indent=data.draw(st.sampled_from([None, 2]))).encode()
    for value in (encode(event), spaced):
        (decoded,) = decode_records([record_of(topic, event, value)], BY_NAME, now=NOW)
        assert decoded.event == event, decoded.reason


@pytest.mark.parametrize("topic", TOPIC_NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_repeated_key_is_refused_wherever_it_stands(topic: str, data: st.DataObject):
    pairs = list(json.loads(encode(data.draw(EVENTS[topic]))).items())
    name, value = data.draw(st.sampled_from(pairs))
    pairs.insert(data.draw(st.integers(0, len(pairs))), (name, value))
    escape = data.draw(st.booleans())
    text = ",".join(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=escape)}" for name, value in pairs)
    (decoded,) = decode_records([record(f"{{{text}}}".encode(), topic=topic)], BY_NAME, now=NOW)
    assert decoded.event is None
    assert decoded.error_class == Refusal.REPEATED_KEY
    assert f"`{name}`" in decoded.reason


def test_the_moment_of_arrival_decides_what_lies_in_the_future():
    tomorrow = record(encode(example("transactions", event_timestamp=NOW + timedelta(days=1))))
    assert decode_records([tomorrow], BY_NAME, now=NOW)[0].event is None
    assert decode_records([tomorrow], BY_NAME, now=NOW + timedelta(days=1))[0].event is not None


def test_each_topic_is_decoded_as_its_own_record():
    decoded = decode_records([record(GOOD, topic="watches"), record(GOOD)], BY_NAME, now=NOW)
    assert decoded[0].event is None
    assert isinstance(decoded[1].event, topic_named("transactions").record)
