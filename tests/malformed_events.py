"""Bytes that claim to be a transaction and are not: one of each kind that a consumer meets."""

from __future__ import annotations

import json

from sample_events import example

from reference_system.events import encode

GOOD = encode(example("transactions"))


def _with(**fields: object) -> bytes:
    return json.dumps({**json.loads(GOOD), **fields}).encode()


def _without(field: str) -> bytes:
    return json.dumps({name: value for name, value in json.loads(GOOD).items() if name != field}).encode()


def _amount(text: bytes) -> bytes:
    return GOOD.replace(b"12.5", text)


def _id(text: bytes) -> bytes:
    return GOOD.replace(b'"x1"', b'"' + text + b'"')


MALFORMED: dict[str, bytes | None] = {
    "a tombstone": None,
    "no bytes": b"",
    "not JSON": b"hello",
    "half of an event": GOOD[: len(GOOD) // 2],
    "two events": GOOD + GOOD,
    "a byte order mark": b"\xef\xbb\xbf" + GOOD,
    "not UTF-8": _id(b"x\xff"),
    "an array at top level": b"[" + GOOD + b"]",
    "a string at top level": b'"x1"',
    "null": b"null",
    "deep nesting": b"[" * 60_000,
    "deep nesting in a field": _amount(b"[" * 30_000 + b"]" * 30_000),
    "deep nesting in an unknown field": _amount(b'1,"z":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    "a repeated key": _amount(b'1.0,"amount":2.0'),
    "a repeated key with spaces": _amount(b'1.0 , "amount" \n: 2.0'),
    "a repeated key with an escape": _amount(b'1.0,"\\u0061mount":2.0'),
    "a repeated key with the same value": _amount(b'12.5,"amount":12.5'),
    "a lone surrogate": _id(b"\\ud800"),
    "a lone surrogate in UTF-8": _id(b"x\xed\xa0\x80"),
    "NUL": _id(b"x\x00"),
    "an escaped NUL": _id(b"x\\u0000"),
    "a control character": _id(b"x\\u0007"),
    "a newline at the end of an id": _id(b"x1\\n"),
    "NaN": _amount(b"NaN"),
    "infinity": _amount(b"Infinity"),
    "1e999": _amount(b"1e999"),
    "a number of 400 digits": _amount(b"1" * 400),
    "a number in a string": _amount(b'"12.5"'),
    "a boolean for a number": _amount(b"true"),
    "null for a number": _amount(b"null"),
    "a number for an id": GOOD.replace(b'"x1"', b"1"),
    "a negative amount": _amount(b"-0.01"),
    "an amount beyond the bound": _amount(b"1000000.01"),
    "an empty id": _id(b""),
    "an id of 65 characters": _id(b"x" * 65),
    "an id with a space": _id(b"x 1"),
    "an id in another script": _id("ж1".encode()),
    "a missing field": _without("amount"),
    "a missing version": _without("schema_version"),
    "an extra field": _with(colour="red"),
    "an unknown version": _with(schema_version=2),
    "a version in a string": _with(schema_version="1"),
    "a time without a zone": _with(event_timestamp="2025-03-03T11:00:00"),
    "a time as a number": _with(event_timestamp=1_741_003_200),
    "a date": _with(event_timestamp="2025-03-03"),
    "a day that does not exist": _with(event_timestamp="2025-02-30T11:00:00Z"),
    "the year 1970": _with(event_timestamp="1970-01-20T11:00:00Z"),
    "the year 2999": _with(event_timestamp="2999-01-01T00:00:00Z"),
    "the end of time in another zone": _with(event_timestamp="9999-12-31T23:59:59-23:59"),
    "six minutes in the future": _with(event_timestamp="2025-03-03T12:06:00Z"),
    "more bytes than allowed": GOOD + b" " * 65_536,
}
# The largest that a broker takes on an ordinary topic by default is 1 MiB, its own overhead included.
HUGE = b'{"transaction_id":"' + b"x" * (1024 * 1024 - 600) + b'"}'
