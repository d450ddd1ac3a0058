"""The boundary: each kind of malformed bytes is refused with a reason, and nothing valid is."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from malformed_events import GOOD, HUGE, MALFORMED
from sample_events import EVENTS, NOW, TOPIC_NAMES, example

from reference_system.events import encode
from reference_system.ingestion.decode import Record, decode_records
from reference_system.use_cases import TOPICS, topic_named

BY_NAME = {topic.name: topic for topic in TOPICS}


def record(value: bytes | None, *, topic: str = "transactions", offset: int = 0) -> Record:
    return Record(topic=topic, partition=0, offset=offset, produced_ms=0, key=b"c000001", value=value)


@pytest.mark.parametrize("value", [*MALFORMED.values(), HUGE], ids=[*MALFORMED, "a message of 1 MiB"])
def test_malformed_bytes_are_refused_with_a_reason_and_kept(value: bytes | None):
    (decoded,) = decode_records([record(value)], BY_NAME, now=NOW)
    assert decoded.event is None
    assert decoded.reason.startswith("transactions: ")
    assert decoded.record.value == value


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
        (decoded,) = decode_records([record(value, topic=topic)], BY_NAME, now=NOW)
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
    assert name in decoded.reason


def test_the_moment_of_arrival_decides_what_lies_in_the_future():
    tomorrow = record(encode(example("transactions", event_timestamp=NOW + timedelta(days=1))))
    assert decode_records([tomorrow], BY_NAME, now=NOW)[0].event is None
    assert decode_records([tomorrow], BY_NAME, now=NOW + timedelta(days=1))[0].event is not None


def test_each_topic_is_decoded_as_its_own_record():
    decoded = decode_records([record(GOOD, topic="watches"), record(GOOD)], BY_NAME, now=NOW)
    assert decoded[0].event is None
    assert isinstance(decoded[1].event, topic_named("transactions").record)
