"""Malformed messages: one of each kind that a consumer must refuse.

In: the event clock's time. Out: messages that must end on the dead-letter topic, and valid ones to send between them.
Invariant: each differs from a valid event only in what its name states.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from reference_system.events import EARLIEST, FUTURE_TOLERANCE, MAX_EVENT_BYTES, Event, Refusal, encode
from reference_system.use_cases.fraud.events import ChargebackReported, Transaction
from reference_system.use_cases.recommendation.events import PageShown

_CUSTOMER = "poison-customer"
_ID, _AMOUNT = b'"poison-1"', b"12.5"
# A broker's default limit on an ordinary topic is 1 MiB, including its overhead.
_LARGEST_MESSAGE = 1024 * 1024 - 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """A message, its defect, and the refusal that ingestion must give."""

    name: str
    kind: Refusal
    value: bytes | None
    topic: str = "transactions"
    key: bytes = _CUSTOMER.encode()


def good_transaction(number: int, now: datetime) -> Transaction:
    """A valid payment at `now`; its id follows from the number."""
    return Transaction(
        schema_version=1,
        event_timestamp=now,
        transaction_id=f"poison-{number}",
        customer_id=_CUSTOMER,
        terminal_id="poison-terminal",
        amount=12.5,
    )


def malformed(now: datetime) -> list[Malformed]:
    """Every kind, for the current time `now`."""
    good = encode(good_transaction(1, now))
    return [
        *(Malformed(name=name, kind=kind, value=value) for name, kind, value in _no_json(good)),
        *(Malformed(name=name, kind=kind, value=value) for name, kind, value in _odd_texts(good)),
        *(Malformed(name=name, kind=Refusal.WRONG_SCHEMA, value=value) for name, value in _odd_numbers(good)),
        *(Malformed(name=name, kind=kind, value=value) for name, kind, value in _odd_fields(good)),
        *(Malformed(name=name, kind=kind, value=value) for name, kind, value in _odd_times(good, now)),
        *_contradictions(good, now),
    ]


def _no_json(good: bytes) -> list[tuple[str, Refusal, bytes | None]]:
    not_json, schema = Refusal.NOT_JSON, Refusal.WRONG_SCHEMA
    in_amount, in_unknown = b"[" * 30_000 + b"]" * 30_000, b'1,"z":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000
    return [
        ("a tombstone", Refusal.TOMBSTONE, None),
        ("no bytes", not_json, b""),
        ("white space", not_json, b" \r\n\t"),
        ("not JSON", not_json, b"hello"),
        ("bytes of another format", not_json, bytes(range(256))),
        ("half of an event", not_json, good[: len(good) // 2]),
        ("two events", not_json, good + good),
        ("a comma at the end", not_json, good[:-1] + b",}"),
        ("a comment", not_json, good[:-1] + b"/* */}"),
        ("single quotes", not_json, good.replace(b'"', b"'")),
        ("a byte order mark", not_json, b"\xef\xbb\xbf" + good),
        ("UTF-16", not_json, good.decode().encode("utf-16")),
        ("a NUL behind the event", not_json, good + b"\x00"),
        ("an array at top level", schema, b"[" + good + b"]"),
        ("an event in a string", schema, json.dumps(good.decode()).encode()),
        ("a number at top level", schema, b"1"),
        ("null", schema, b"null"),
        ("an empty object", schema, b"{}"),
        ("deep nesting", schema, b"[" * 60_000),
        ("deep nesting of 10,000", schema, b"[" * 10_000 + b"]" * 10_000),
        ("deep nesting in a field", schema, good.replace(_AMOUNT, in_amount)),
        ("deep nesting in an unknown field", schema, good.replace(_AMOUNT, in_unknown)),
        ("more bytes than allowed", Refusal.OVERSIZED, good.ljust(MAX_EVENT_BYTES + 1)),
        ("a message of 1 MiB", Refusal.OVERSIZED, b'{"transaction_id":"' + b"x" * _LARGEST_MESSAGE + b'"}'),
    ]


def _odd_texts(good: bytes) -> list[tuple[str, Refusal, bytes | None]]:
    texts = {
        "not UTF-8": b"x\xff",
        "overlong UTF-8": b"x\xc0\xaf",
        "a lone surrogate": b"\\ud800",
        "a lone second surrogate": b"x\\udc00",
        "two first surrogates": b"\\ud800\\ud800",
        "a lone surrogate in UTF-8": b"x\xed\xa0\x80",
        "a NUL": b"x\x00",
        "a raw newline": b"x\n",
        "an escape that does not exist": b"x\\x41",
        "half of an escape": b"x\\u00",
    }
    ids = {
        "an escaped NUL": b"x\\u0000",
        "a control character": b"x\\u0007",
        "a newline at the end of an id": b"x1\\n",
        "a newline in an id": b"x1\\nx2",
        "a delete character": b"x\x7f",
        "an empty id": b"",
        "an id of 65 characters": b"x" * 65,
        "an id that begins with a space": b" x1",
        "an id that ends with a space": b"x1 ",
        "an id that is a space": b" ",
        "an id that ends with a space of another width": "x1\u00a0".encode(),
        "an id with an invisible character": "x\u200b1".encode(),
        "an id with an escaped invisible character": b"x\\u200b1",
        "an id with a mark of direction": "x\u202e1".encode(),
        "an id of two lines by another sign": "x\u20281".encode(),
        "an id with a control character of the second kind": "x\u00851".encode(),
    }
    escaped = ("an escaped NUL", Refusal.HOSTILE_TEXT)
    return [
        *((name, Refusal.NOT_JSON, good.replace(_ID, b'"' + text + b'"')) for name, text in texts.items()),
        *(
            (name, dict([escaped]).get(name, Refusal.WRONG_SCHEMA), good.replace(_ID, b'"' + text + b'"'))
            for name, text in ids.items()
        ),
    ]


def _odd_numbers(good: bytes) -> list[tuple[str, bytes]]:
    numbers = {
        "1e999": b"1e999",
        "-1e999": b"-1e999",
        "a number of 400 digits": b"1" * 400,
        "a number in a string": b'"12.5"',
        "an empty string for a number": b'""',
        "a boolean for a number": b"true",
        "null for a number": b"null",
        "an array for a number": b"[12.5]",
        "an object for a number": b'{"value":12.5}',
        "an amount beyond the bound": b"1000000000000.01",
        "a refund beyond the bound": b"-1000000000000.01",
    }
    return [(name, good.replace(_AMOUNT, text)) for name, text in numbers.items()]


def _odd_fields(good: bytes) -> list[tuple[str, Refusal, bytes | None]]:
    fields = json.loads(good)

    def altered(**changes: object) -> bytes:
        return json.dumps({**fields, **changes}).encode()

    def without(name: str) -> bytes:
        return json.dumps({key: value for key, value in fields.items() if key != name}).encode()

    def amount(text: bytes) -> bytes:
        return good.replace(_AMOUNT, text)

    not_json, schema, repeated = Refusal.NOT_JSON, Refusal.WRONG_SCHEMA, Refusal.REPEATED_KEY
    return [
        *((name, not_json, amount(name.encode())) for name in ("NaN", "Infinity", "-Infinity", "0x10", "+1", "012")),
        ("a number without digits behind the point", not_json, amount(b"12.")),
        ("a number that begins with the point", not_json, amount(b".5")),
        ("a repeated key", repeated, amount(b'1.0,"amount":2.0')),
        ("a repeated key with spaces", repeated, amount(b'1.0 , "amount" \n: 2.0')),
        ("a repeated key with an escape", repeated, amount(b'1.0,"\\u0061mount":2.0')),
        ("a repeated key with the same value", repeated, amount(b'12.5,"amount":12.5')),
        ("a repeated id", repeated, good.replace(_ID, b'"poison-2","transaction_id":' + _ID)),
        ("a number for an id", schema, good.replace(_ID, b"1")),
        ("null for an id", schema, good.replace(_ID, b"null")),
        ("a missing field", schema, without("amount")),
        ("a missing version", schema, without("schema_version")),
        ("an extra field", schema, altered(colour="red")),
        ("a field in capitals", schema, good.replace(b'"amount"', b'"AMOUNT"')),
        ("an unknown version", Refusal.UNKNOWN_VERSION, altered(schema_version=2)),
        ("a version in a string", Refusal.UNKNOWN_VERSION, altered(schema_version="1")),
        ("a version with a fraction", Refusal.UNKNOWN_VERSION, altered(schema_version=1.5)),
    ]


def _odd_times(good: bytes, now: datetime) -> list[tuple[str, Refusal, bytes | None]]:
    fields = json.loads(good)

    def at(moment: object) -> bytes:
        return json.dumps({**fields, "event_timestamp": moment}).encode()

    schema, wrong = Refusal.WRONG_SCHEMA, Refusal.WRONG_TIME
    ahead = (now + FUTURE_TOLERANCE + timedelta(microseconds=1)).astimezone(UTC)
    return [
        ("a time without a zone", schema, at("2025-03-03T11:00:00")),
        ("a time as a number", schema, at(1_741_003_200)),
        ("a time as a number in a string", schema, at("1741003200")),
        ("a date", schema, at("2025-03-03")),
        ("a time in words", schema, at("3 March 2025 11:00 UTC")),
        ("a day that does not exist", schema, at("2025-02-30T11:00:00Z")),
        ("an hour that does not exist", schema, at("2025-02-03T24:00:00Z")),
        ("the year 0", schema, at("0000-01-01T00:00:00Z")),
        ("the year 10000", schema, at("10000-01-01T00:00:00Z")),
        ("the year 1", wrong, at("0001-01-01T00:00:00+23:59")),
        ("the year 1970", wrong, at("1970-01-20T11:00:00Z")),
        ("a microsecond before the earliest", wrong, at((EARLIEST - timedelta(microseconds=1)).isoformat())),
        ("the year 2999", wrong, at("2999-01-01T00:00:00Z")),
        ("the end of time in another zone", wrong, at("9999-12-31T23:59:59-23:59")),
        ("a moment further ahead than a clock may be", wrong, at(ahead.isoformat())),
    ]


def _contradictions(good: bytes, now: datetime) -> list[Malformed]:
    early = ChargebackReported(
        schema_version=1,
        event_timestamp=now,
        chargeback_id="poison-b1",
        transaction_id="poison-1",
        customer_id=_CUSTOMER,
        terminal_id="poison-terminal",
        created_timestamp=now,
    )
    page = PageShown(
        schema_version=1,
        event_timestamp=now,
        impression_id="poison-i1",
        session_id="poison-s1",
        viewer_id="poison-viewer",
        video_ids=["m000001", "m000002"],
        propensities=[0.5, 0.5],
        policy="popularity",
    )
    day_before = (now - timedelta(days=1)).isoformat()

    def of(topic: str, event: Event, name: str, kind: Refusal, key: str, **changes: object) -> Malformed:
        value = json.dumps({**json.loads(encode(event)), **changes}).encode()
        return Malformed(name=name, kind=kind, value=value, topic=topic, key=key.encode())

    schema, terminal, viewer = Refusal.WRONG_SCHEMA, "poison-terminal", "poison-viewer"
    return [
        Malformed(name="another customer's key", kind=Refusal.WRONG_KEY, value=good, key=b"poison-other"),
        of("chargebacks", early, "a dispute before its payment", schema, terminal, created_timestamp=day_before),
        of("impressions", page, "two videos with one propensity", schema, viewer, propensities=[0.5]),
        of("impressions", page, "a page without videos", schema, viewer, video_ids=[], propensities=[]),
        of("impressions", page, "an id in a list that is none", schema, viewer, video_ids=["m000001", "m\n2"]),
        of("impressions", page, "a NUL in a text", Refusal.HOSTILE_TEXT, viewer, policy="popular\x00ity"),
        of("impressions", page, "a share beyond 1", schema, viewer, propensities=[0.5, 1.5]),
    ]
