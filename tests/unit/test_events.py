"""Records: what is written is what is read, and nothing else is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sample_events import EVENTS, NOW, TOPIC_NAMES, example
from typer.testing import CliRunner

from reference_system.commands.data.schemas import SCHEMAS, app, check_schemas, schema_texts
from reference_system.errors import EventRejected, StateError
from reference_system.event_shapes import Id, shape_of
from reference_system.events import FUTURE_TOLERANCE, MAX_EVENT_BYTES, Event, decode, encode, json_schema
from reference_system.use_cases import TOPICS, topic_named

TRANSACTIONS = topic_named("transactions")


def altered(topic: str, **fields: Any) -> bytes:
    """A valid event's JSON with other values in some fields."""
    return json.dumps({**json.loads(encode(example(topic))), **fields}).encode()


@pytest.mark.parametrize("topic", TOPIC_NAMES)
def test_every_topic_has_a_valid_example(topic: str):
    event = example(topic)
    assert decode(topic_named(topic), encode(event), now=NOW) == event


@pytest.mark.parametrize("topic", TOPIC_NAMES)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_decoding_what_was_encoded_gives_the_event_back(topic: str, data: st.DataObject):
    event = data.draw(EVENTS[topic])
    assert decode(topic_named(topic), encode(event), now=NOW) == event


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused_and_never_crash(data: bytes):
    for topic in TOPICS:
        with pytest.raises(EventRejected):
            decode(topic, data, now=NOW)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_changed_byte_gives_an_event_or_a_rejection(place: int, byte: int):
    data = bytearray(encode(example("transactions")))
    data[place % len(data)] = byte
    try:
        event = decode(TRANSACTIONS, bytes(data), now=NOW)
    except EventRejected:
        return
    assert decode(TRANSACTIONS, encode(event), now=NOW) == event


def test_a_time_in_another_zone_is_the_same_moment():
    noon = NOW.astimezone(timezone(timedelta(hours=2)))
    assert example("transactions", event_timestamp=noon) == example("transactions")


def test_a_clock_that_runs_five_minutes_ahead_is_tolerated():
    just = encode(example("transactions", event_timestamp=NOW + FUTURE_TOLERANCE))
    decode(TRANSACTIONS, just, now=NOW)
    beyond = encode(example("transactions", event_timestamp=NOW + FUTURE_TOLERANCE + timedelta(microseconds=1)))
    with pytest.raises(EventRejected, match="future"):
        decode(TRANSACTIONS, beyond, now=NOW)


def test_a_label_that_is_created_in_the_future_is_refused():
    label = example("chargebacks", created_timestamp=NOW + timedelta(hours=1))
    with pytest.raises(EventRejected, match="created_timestamp"):
        decode(topic_named("chargebacks"), encode(label), now=NOW)


def test_an_event_of_the_largest_size_is_read_and_one_byte_more_is_not():
    data = encode(example("transactions"))
    decode(TRANSACTIONS, data.ljust(MAX_EVENT_BYTES), now=NOW)
    with pytest.raises(EventRejected, match=str(MAX_EVENT_BYTES)):
        decode(TRANSACTIONS, data.ljust(MAX_EVENT_BYTES + 1), now=NOW)


def test_a_rejection_names_the_topic_and_the_field():
    with pytest.raises(EventRejected, match=r"transactions: .*\$\.amount"):
        decode(TRANSACTIONS, altered("transactions", amount="12.5"), now=NOW)


def test_key_and_id_are_read_from_the_declared_fields():
    event = example("chargebacks", terminal_id="t9", chargeback_id="b9")
    assert topic_named("chargebacks").key_of(event) == "t9"
    assert topic_named("chargebacks").id_of(event) == "b9"


# Schemas


def test_committed_schemas_equal_the_declarations():
    check_schemas(SCHEMAS, schema_texts())


def test_no_description_has_the_indentation_that_only_older_compilers_leave_in_a_docstring():
    assert [name for name, text in schema_texts().items() if r"\n " in text] == []


@pytest.mark.parametrize("topic", TOPIC_NAMES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_every_event_validates_against_its_schema(topic: str, data: st.DataObject):
    Draft202012Validator(json_schema(topic_named(topic))).validate(json.loads(encode(data.draw(EVENTS[topic]))))


INVALID: list[tuple[str, dict[str, Any]]] = [
    ("transactions", {"amount": -1.1e12}),
    ("transactions", {"amount": "12.5"}),
    ("transactions", {"amount": True}),
    ("transactions", {"amount": 1.1e12}),
    ("transactions", {"transaction_id": ""}),
    ("transactions", {"transaction_id": "x" * 65}),
    ("transactions", {"transaction_id": "x\n"}),
    ("transactions", {"transaction_id": 7}),
    ("transactions", {"schema_version": 2}),
    ("transactions", {"colour": "red"}),
    ("transactions", {"event_timestamp": 1_741_003_200}),
    ("videos", {"category": "cooking"}),
    ("videos", {"duration_seconds": 0}),
    ("impressions", {"video_ids": []}),
    ("impressions", {"video_ids": ["m1"] * 51}),
    ("impressions", {"propensities": [1.5]}),
    ("watches", {"position": 0}),
    ("watches", {"position": 1.5}),
    ("watches", {"completion": 1.01}),
    ("predictions", {"use_case": "churn"}),
    ("predictions", {"latency_ms": -1}),
    ("predictions", {"feature_age_seconds": -1}),
]


@pytest.mark.parametrize(("topic", "fields"), INVALID, ids=[f"{topic}-{fields}"[:60] for topic, fields in INVALID])
def test_schema_and_decoder_refuse_the_same(topic: str, fields: dict[str, Any]):
    data = altered(topic, **fields)
    assert not Draft202012Validator(json_schema(topic_named(topic))).is_valid(json.loads(data))
    with pytest.raises(EventRejected):
        decode(topic_named(topic), data, now=NOW)


@pytest.mark.parametrize("topic", TOPIC_NAMES)
def test_schema_and_decoder_require_every_field(topic: str):
    whole = json.loads(encode(example(topic)))
    validator = Draft202012Validator(json_schema(topic_named(topic)))
    for field in whole:
        rest = {name: value for name, value in whole.items() if name != field}
        assert not validator.is_valid(rest), field
        with pytest.raises(EventRejected):
            decode(topic_named(topic), json.dumps(rest).encode(), now=NOW)


def test_a_stale_missing_or_leftover_schema_file_is_named(tmp_path: Path):
    runner = CliRunner()
    assert runner.invoke(app, ["--folder", str(tmp_path)]).exit_code == 0
    assert runner.invoke(app, ["--check", "--folder", str(tmp_path)]).exit_code == 0
    (tmp_path / "watches.v1.json").write_text("{}")
    (tmp_path / "videos.v1.json").unlink()
    (tmp_path / "old.v1.json").write_text("{}")
    with pytest.raises(StateError, match=r"old\.v1\.json, videos\.v1\.json, watches\.v1\.json"):
        check_schemas(tmp_path, schema_texts())
    assert runner.invoke(app, ["--folder", str(tmp_path)]).exit_code == 0
    assert not (tmp_path / "old.v1.json").exists()


def test_times_of_the_unit_error_kind_are_refused():
    for moment in (datetime(1970, 1, 20, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)):
        with pytest.raises(EventRejected):
            decode(TRANSACTIONS, encode(example("transactions", event_timestamp=moment)), now=NOW)


def test_a_page_whose_videos_and_propensities_differ_in_number_is_refused():
    with pytest.raises(EventRejected, match="2 video_ids with 1 propensities"):
        decode(topic_named("impressions"), altered("impressions", propensities=[0.5]), now=NOW)


def test_a_chargeback_from_before_its_payment_is_refused():
    early = altered("chargebacks", created_timestamp="2001-01-01T00:00:00Z")
    with pytest.raises(EventRejected, match="disputed after it was made"):
        decode(topic_named("chargebacks"), early, now=NOW)


@pytest.mark.parametrize("topic", TOPIC_NAMES)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_id_is_refused_exactly_when_its_pattern_says_so(topic: str, data: st.DataObject):
    # `decode` looks at all ids of an event at once; the schema's own pattern looks at each.
    event = json.loads(encode(data.draw(EVENTS[topic])))
    fields = [name for name in event if name.endswith(("_id", "_ids")) or name in ("items", "entity_keys")]
    name = data.draw(st.sampled_from(fields))
    text = data.draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=66) | st.from_regex(r"[ -~\n]{1,5}"))
    event[name] = [*event[name], text] if isinstance(event[name], list) else text
    if topic == "impressions" and name == "video_ids":
        event["propensities"] = [*event["propensities"], 0.5]
    allowed = Draft202012Validator(json_schema(topic_named(topic))).is_valid(event)
    for escape in (True, False):
        try:
            decode(topic_named(topic), json.dumps(event, ensure_ascii=escape).encode(), now=NOW)
        except EventRejected:
            assert not allowed, text
        else:
            assert allowed, text


@pytest.mark.parametrize(
    "name",
    [
        "Alder and Birch",
        "Cedar, Dogwood",
        "O'Elm",
        'the "Fir"',
        "../Gum",
        "-12",
        "C:\\d",
        "Ясень 7",
        "店　七",
        "{x",
        "a  b",
    ],
)
def test_any_text_of_one_line_is_an_id(name: str):
    event = example("transactions", customer_id=name, terminal_id=name)
    for value in (encode(event), json.dumps(json.loads(encode(event))).encode()):
        assert decode(TRANSACTIONS, value, now=NOW) == event


def test_two_spellings_of_one_letter_are_two_ids():
    composed, decomposed = (example("transactions", customer_id=name) for name in ("caf\u00e9", "cafe\u0301"))
    assert decode(TRANSACTIONS, encode(composed), now=NOW) != decode(TRANSACTIONS, encode(decomposed), now=NOW)


@pytest.mark.parametrize("digits", ["9999999", "999999999", "9999995"])
@pytest.mark.parametrize("written", ['"%s"', '  "%s" '])
def test_what_is_finer_than_a_microsecond_is_cut_and_no_moment_becomes_the_next_day(digits: str, written: str):
    last = datetime(2025, 3, 1, 23, 59, 59, 999_999, tzinfo=UTC)
    data = encode(example("chargebacks", event_timestamp=last, created_timestamp=last))
    finer = data.replace(b'"2025-03-01T23:59:59.999999Z"', (written % f"2025-03-01T23:59:59.{digits}Z").encode())
    assert finer.count(digits.encode()) == 2
    assert decode(topic_named("chargebacks"), finer, now=NOW) == decode(topic_named("chargebacks"), data, now=NOW)


def test_an_id_that_reads_like_a_time_is_not_cut():
    event = example("transactions", transaction_id="2025-03-01T23:59:59.9999999Z")
    assert decode(TRANSACTIONS, encode(event), now=NOW) == event


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (dict[str, str], "neither a plain value"),
        (list[list[str]], "neither a plain value"),
        (Id | None, "may be null"),
    ],
)
def test_a_record_whose_shape_strict_decoding_cannot_judge_is_refused(kind: Any, complaint: str):
    odd = msgspec.defstruct("Odd", [("odd_id", Id), ("odd", kind)], bases=(Event,), frozen=True, kw_only=True)
    with pytest.raises(TypeError, match=complaint):
        shape_of(odd)


def test_nul_is_refused_in_every_text_and_an_escaped_backslash_is_not_mistaken_for_it():
    topic = topic_named("predictions")
    for fields in ({"decision": "a\x00"}, {"reasons": ["a", "b\x00"]}, {"model_version": "\x00"}):
        with pytest.raises(EventRejected, match="NUL"):
            decode(topic, altered("predictions", **fields), now=NOW)
    decode(topic, altered("predictions", decision="\\u0000"), now=NOW)
