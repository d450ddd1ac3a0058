"""The service and the topics read one JSON: what one takes for a payment, the other does."""

from __future__ import annotations

from datetime import timedelta

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sample_events import NOW

from reference_system.errors import EventRejected
from reference_system.events import EARLIEST, decode
from reference_system.serving.api import FraudScoreRequest, RequestRefused, decode_request, moment_asked
from reference_system.use_cases import topic_named

TRANSACTIONS = topic_named("transactions")
FIELDS = {
    "transaction_id": b'"x1"',
    "customer_id": b'"c1"',
    "terminal_id": b'"t1"',
    "amount": b"12.5",
    "event_timestamp": b'"2025-03-03T12:00:00Z"',
}
DECODER = msgspec.json.Decoder(FraudScoreRequest)


def takes_request(text: bytes) -> bool:
    try:
        moment_asked(decode_request(DECODER, text).event_timestamp, NOW)
    except RequestRefused:
        return False
    return True


def takes_event(text: bytes) -> bool:
    try:
        decode(TRANSACTIONS, text, now=NOW)
    except EventRejected:
        return False
    return True


def moment(of) -> bytes:
    return f'"{of.isoformat()}"'.encode()


ODD = st.sampled_from(
    [
        *(
            b"NaN",
            b"Infinity",
            b"-Infinity",
            b"1e999",
            b"01",
            b"+1",
            b"1.",
            b".5",
            b"1e2",
            b"1E+2",
            b"-0.0",
            b"1_0",
            b"0x1",
        ),
        *(b'"12.5"', b"true", b"[]", b"{}", b"[1]", b'{"a":1,"a":2}', b'""', b"''", b"nul", b"9" * 400, b"1e-400"),
        *(
            b'"x\x00"',
            b'"x\\u0000"',
            b'"x\n"',
            b'"x\\n"',
            b'"\xff"',
            b'"\xed\xa0\x80"',
            b'"\\ud800"',
            b'"\\ud83d\\ude00"',
        ),
        *(b'"\\u0063\\u0031"', b'"a b"', b'"\\/"', b'"' + b"x" * 64 + b'"', b'"' + b"x" * 65 + b'"', b'"\xc0\xaf"'),
        *(b'"2025-03-03T12:00:00"', b'"2025-03-03 12:00:00Z"', b'"2025-03-03T12:00:00+05:30"', b"1741003200"),
        *(b'"2025-03-03T12:00:00.1234567Z"', b'"2025-03-03T12:00:60Z"', b'"2025-03-03"', b'"2025-02-29T12:00:00Z"'),
        moment(EARLIEST),
        moment(EARLIEST - timedelta(microseconds=1)),
        moment(NOW + timedelta(minutes=5)),
        moment(NOW + timedelta(minutes=5, microseconds=1)),
    ]
)
names = st.sampled_from([*FIELDS, "other", ""])
keys = st.one_of(
    names.map(lambda name: f'"{name}"'.encode()),
    names.filter(bool).map(lambda name: f'"\\u{ord(name[0]):04x}{name[1:]}"'.encode()),
)
# What is put into a payment's text: a field more, or another value for one that is there.
changes = st.lists(st.tuples(keys, st.one_of(ODD, st.sampled_from(sorted(FIELDS.values())))), max_size=2)
outside = st.sampled_from([b"", b"", b"", b" ", b"\r\n\t", b"\xef\xbb\xbf", b"\x00", b",", b"x", b"/**/", b"\x0c"])


@settings(max_examples=400, deadline=None)
@given(
    order=st.permutations(sorted(FIELDS)),
    odd=st.dictionaries(st.sampled_from(sorted(FIELDS)), ODD, max_size=1),
    more=changes,
    around=st.tuples(outside, st.sampled_from([b",", b" ,\n", b",,", b";"]), outside),
)
@example(order=sorted(FIELDS), odd={}, more=[(b'"amount"', b"1")], around=(b"", b",", b""))
@example(order=sorted(FIELDS), odd={}, more=[(b'"\\u0061mount"', b"1")], around=(b"", b",", b""))
@example(order=sorted(FIELDS), odd={}, more=[], around=(b"", b",", b""))
def test_a_text_is_a_payment_for_the_service_if_and_only_if_it_is_one_on_the_topic(order, odd, more, around):
    pairs = [(f'"{name}"'.encode(), odd.get(name, FIELDS[name])) for name in order] + more
    before, between, after = around

    def text(*beside):
        return before + b"{" + between.join(b":".join(pair) for pair in [*pairs, *beside]) + b"}" + after

    assert takes_request(text()) == takes_event(text((b'"schema_version"', b"1"))), text()


def test_both_take_what_is_right_and_neither_what_is_wrong():
    good = b"{" + b",".join(b'"%b":%b' % (name.encode(), value) for name, value in FIELDS.items()) + b"}"
    versioned = good[:-1] + b',"schema_version":1}'
    assert (takes_request(good), takes_event(versioned)) == (True, True)
    assert (takes_request(good + b"x"), takes_event(versioned + b"x")) == (False, False)
