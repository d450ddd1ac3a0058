"""The real ASGI application: every wrong request gets its 4xx in one shape, every right one its answer."""

from __future__ import annotations

import asyncio
import gzip
import json
from datetime import timedelta
from functools import cache
from itertools import count

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_broker import NOON
from served_models import States, fraud_model_for_tests, ranker_model_for_tests

from reference_system.clock import FixedClock
from reference_system.serving.answering import FRAUD_PATH, RECOMMENDATIONS_PATH, Answering
from reference_system.serving.api import FraudScoreAnswer, ProblemAnswer, RecommendationAnswer
from reference_system.serving.champions import Loaded
from reference_system.serving.feature_reads import FeaturesUnavailable
from reference_system.serving.http.app import MAX_IN_FLIGHT, HttpAnswer, HttpApp
from reference_system.serving.prediction_log.kafka_log import OUTCOMES
from reference_system.serving.prometheus_metrics import ServingMetrics
from reference_system.serving.recommendation.catalogue import refresh_catalogue

PAYMENT = {"transaction_id": "x1", "customer_id": "c1", "terminal_id": "t1", "amount": 12.5}
VIEWER = {"viewer_id": "w1"}
JSON = {"content-type": "application/json"}


class Service:
    """The application with states in memory, and what it logged."""

    def __init__(self):
        self.logged = []
        self.failed = []
        self.states = States()
        self.metrics = ServingMetrics(
            endpoints=(FRAUD_PATH, RECOMMENDATIONS_PATH),
            views=("customer_activity", "viewer_activity"),
            log_outcomes=OUTCOMES,
        )
        self.fraud = Loaded(version="3", model=fraud_model_for_tests())
        self.catalogue = refresh_catalogue(ranker_model_for_tests("4"), self.states, NOON)
        numbers = count(1)
        answering = Answering(
            fraud=lambda: self.fraud,
            catalogue=lambda: self.catalogue,
            read=self._read,
            clock=FixedClock(NOON),
            new_id=lambda: f"p{next(numbers)}",
            log=lambda _topic, record: self.logged.append(record),
            metrics=self.metrics,
        )
        routes = {**answering.routes(), "/livez": {"GET": lambda _: HttpAnswer(body=b"{}")}}
        self.app = HttpApp(routes, self.metrics, lambda path, error: self.failed.append((path, error)))

    def _read(self, view, keys):
        return self.states(view, keys)  # what the test put there by now

    async def ask(self, method, path, **request):
        # What escapes the application would be a 500 with a trace: it must fail the test.
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.request(method, path, **request)

    def post(self, path, body, headers=None):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return asyncio.run(self.ask("POST", path, content=content, headers=JSON if headers is None else headers))


@pytest.fixture
def service():
    return Service()


@cache
def one_service():
    """For the fuzzer: one for all its bodies."""
    return Service()


def test_a_payment_is_scored(service):
    answer = service.post(FRAUD_PATH, PAYMENT)
    found = msgspec.json.decode(answer.content, type=FraudScoreAnswer)
    assert answer.status_code == 200
    assert (found.transaction_id, found.prediction_id, found.model_version) == ("x1", "p1", "3")
    assert 0.0 <= found.score <= 1.0
    assert (found.event_timestamp, found.created_timestamp) == (NOON, NOON)
    assert not found.degraded
    (record,) = service.logged
    assert (record.prediction_id, record.scores) == (found.prediction_id, [found.score])


def test_a_page_is_recommended(service):
    answer = service.post(RECOMMENDATIONS_PATH, {**VIEWER, "k": 7})
    found = msgspec.json.decode(answer.content, type=RecommendationAnswer)
    assert answer.status_code == 200
    assert len(found.items) == 7
    assert found.model_version == "4"
    assert service.logged[0].items == [item.video_id for item in found.items]


def test_a_request_may_ask_about_another_moment(service):
    moment = NOON - timedelta(days=3)
    found = service.post(FRAUD_PATH, {**PAYMENT, "event_timestamp": moment.isoformat()}).json()
    assert (found["event_timestamp"], found["created_timestamp"]) == ("2025-02-28T12:00:00Z", "2025-03-03T12:00:00Z")


@pytest.mark.parametrize("name", ["Cedar, Dogwood", "O'Elm", '{"the Fir"}', "../Gum", "Ясень 7"])
def test_any_text_of_one_line_is_an_id(service, name):
    answer = service.post(FRAUD_PATH, {**PAYMENT, "transaction_id": name, "customer_id": name, "terminal_id": name})
    assert (answer.status_code, answer.json()["transaction_id"]) == (200, name)
    assert service.logged[0].entity_id == name


def test_a_moment_finer_than_a_microsecond_is_cut_as_on_the_topics(service):
    found = service.post(FRAUD_PATH, {**PAYMENT, "event_timestamp": "2025-02-28T23:59:59.9999999Z"}).json()
    assert found["event_timestamp"] == "2025-02-28T23:59:59.999999Z"


@pytest.mark.parametrize("path", [FRAUD_PATH, RECOMMENDATIONS_PATH])
def test_a_feature_store_that_is_down_degrades_the_answer_and_is_counted(service, path):
    def down(_view, _keys):
        raise FeaturesUnavailable("down")

    service.states = down
    answer = service.post(path, PAYMENT if path == FRAUD_PATH else VIEWER)
    assert answer.status_code == 200
    assert answer.json()["degraded"] is True
    assert service.logged[0].degraded
    assert b"workbook_degraded_total{" in service.metrics.text()


def without(record, field):
    return {name: value for name, value in record.items() if name != field}


DEEP = b"[" * 30_000 + b"]" * 30_000
FRAUD_REFUSALS = [
    ({**PAYMENT, "colour": 1}, "colour", "unknown"),
    ({**PAYMENT, "x" * 300: 1}, "x" * 64 + "…", "unknown"),
    ({**PAYMENT, "": 1}, "", "unknown"),
    ({**PAYMENT, "`": 1}, "`", "unknown"),
    (without(PAYMENT, "amount"), "amount", "missing"),
    (without(PAYMENT, "customer_id"), "customer_id", "missing"),
    ({**PAYMENT, "amount": "12.5"}, "amount", "float"),
    ({**PAYMENT, "amount": True}, "amount", "float"),
    ({**PAYMENT, "amount": None}, "amount", "float"),
    ({**PAYMENT, "amount": -0.01}, "amount", ">= 0"),
    ({**PAYMENT, "amount": 1.1e12}, "amount", "<= 1000000000000"),
    ({**PAYMENT, "customer_id": 7}, "customer_id", "str"),
    ({**PAYMENT, "customer_id": ""}, "customer_id", "length"),
    ({**PAYMENT, "customer_id": "a" * 65}, "customer_id", "length"),
    ({**PAYMENT, "customer_id": " c1"}, "customer_id", "an id, which is text of one line"),
    ({**PAYMENT, "customer_id": "c1\n"}, "customer_id", "an id, which is text of one line"),
    ({**PAYMENT, "event_timestamp": "2025-03-03T12:00:00"}, "event_timestamp", "timezone"),
    ({**PAYMENT, "event_timestamp": 1741003200}, "event_timestamp", "datetime"),
    ({**PAYMENT, "event_timestamp": "2025-03-03T12:05:01Z"}, "event_timestamp", "between"),
    ({**PAYMENT, "event_timestamp": "1970-01-01T00:00:00Z"}, "event_timestamp", "between"),
    (json.dumps({**PAYMENT, "amount": float("nan")}).encode(), "amount", "finite"),
    (json.dumps({**PAYMENT, "amount": float("-inf")}).encode(), "amount", "finite"),
    (b'{"transaction_id":"x","customer_id":"c","terminal_id":"t","amount":1e999}', "amount", "range"),
    (b'{"transaction_id":"x","customer_id":"c","terminal_id":"t","amount":' + b"9" * 5000 + b"}", "amount", ""),
    (b'{"amount":' + DEEP + b"}", "amount", ""),
    (DEEP, None, ""),
    (b"[]", None, "object"),
    (b"null", None, "object"),
    (b"1", None, "object"),
]


@pytest.mark.parametrize(("body", "field", "expected"), FRAUD_REFUSALS)
def test_a_field_that_is_not_as_it_must_be_is_named(service, body, field, expected):
    answer = service.post(FRAUD_PATH, body)
    found = msgspec.json.decode(answer.content, type=ProblemAnswer)
    assert (answer.status_code, found.error.code, found.error.field) == (422, "invalid_field", field)
    assert expected in found.error.message
    assert not service.logged


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**VIEWER, "k": 0}, "k"),
        ({**VIEWER, "k": 51}, "k"),
        ({**VIEWER, "k": 2.5}, "k"),
        ({**VIEWER, "k": "3"}, "k"),
        ({}, "viewer_id"),
        ({**VIEWER, "page": 1}, "page"),
    ],
)
def test_a_wrong_recommendation_request_is_refused(service, body, field):
    answer = service.post(RECOMMENDATIONS_PATH, body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)


@pytest.mark.parametrize(
    ("path", "field", "body"),
    [
        (FRAUD_PATH, "amount", b'{"transaction_id":"x1","customer_id":"c1","terminal_id":"t1","amount":9,"amount":1}'),
        (FRAUD_PATH, "amount", b'{"amount":1,"transaction_id":"x1","customer_id":"c1","terminal_id":"t1","amount":1}'),
        (FRAUD_PATH, "customer_id", json.dumps(PAYMENT).encode()[:-1] + b',"customer\\u005fid":"c2"}'),
        (FRAUD_PATH, "event_timestamp", json.dumps(PAYMENT)[:-1].encode() + b',"event_timestamp":null' * 2 + b"}"),
        (RECOMMENDATIONS_PATH, "viewer_id", b'{"viewer_id":"w1","viewer_id":"w2"}'),
        (RECOMMENDATIONS_PATH, "k", b'{"viewer_id":"w1"' + b',"k":3' * 5_000 + b"}"),
    ],
)
def test_a_key_that_stands_twice_is_named(service, path, field, body):
    answer = service.post(path, body)
    found = msgspec.json.decode(answer.content, type=ProblemAnswer).error
    assert (answer.status_code, found.code, found.field) == (422, "invalid_field", field)
    assert found.message == f"the key `{field}` stands more than once"
    assert not service.logged


VALID = json.dumps(PAYMENT).encode()
NO_JSON = [
    b"",
    b"{",
    b'{"amount": }',
    b"\xff\xfe",
    b"{'a': 1}",
    VALID + b"x",
    VALID.replace(b'"c1"', b'"\xff"'),
    VALID.replace(b'"c1"', b'"\\ud800"'),
    b"\xef\xbb\xbf" + VALID,
    VALID.decode().encode("utf-16"),
    gzip.compress(VALID, mtime=0),
]


@pytest.mark.parametrize("body", NO_JSON)
def test_what_is_no_json_is_a_400(service, body):
    answer = service.post(FRAUD_PATH, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "malformed_json")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_another_content_type_is_a_415(service, kind):
    answer = service.post(FRAUD_PATH, PAYMENT, headers={"content-type": kind} if kind else {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "deflate", "br", "zstd", "gzip, br", "x-own"])
def test_a_body_in_another_encoding_is_a_415_that_names_it(service, encoding):
    answer = service.post(FRAUD_PATH, gzip.compress(VALID), headers={**JSON, "content-encoding": encoding})
    found = msgspec.json.decode(answer.content, type=ProblemAnswer).error
    assert (answer.status_code, found.code) == (415, "unsupported_media_type")
    assert f"content encoding {encoding}" in found.message
    assert answer.headers["accept-encoding"] == "identity"
    assert not service.logged


def test_the_name_of_an_encoding_is_shown_only_if_it_is_one_and_so_far(service):
    for strange in (b"<script>", b"g" * 5_000, b"\xff"):
        answer = service.post(
            FRAUD_PATH, VALID, headers=[(b"content-type", b"application/json"), (b"content-encoding", strange)]
        )
        assert answer.status_code == 415
        assert len(answer.content) < 300
        assert strange not in answer.content


@pytest.mark.parametrize("encoding", ["identity", "Identity", "", "identity, identity"])
def test_a_body_that_says_it_is_not_encoded_is_read(service, encoding):
    assert service.post(FRAUD_PATH, PAYMENT, headers={**JSON, "content-encoding": encoding}).status_code == 200


def test_an_encoding_among_several_lines_of_the_header_is_found(service):
    headers = [
        (b"content-type", b"application/json"),
        (b"content-encoding", b"gzip"),
        (b"content-encoding", b"identity"),
    ]
    assert service.post(FRAUD_PATH, PAYMENT, headers=headers).status_code == 415


def test_a_charset_beside_the_content_type_is_accepted(service):
    answer = service.post(FRAUD_PATH, PAYMENT, headers={"content-type": "Application/JSON; charset=utf-8"})
    assert answer.status_code == 200


def test_a_large_body_is_a_413_whether_its_length_is_told_or_not(service):
    large = json.dumps({**PAYMENT, "customer_id": "a" * 70_000}).encode()

    async def parts():
        for start in range(0, len(large), 8192):
            yield large[start : start + 8192]

    told = service.post(FRAUD_PATH, large)
    streamed = asyncio.run(service.ask("POST", FRAUD_PATH, content=parts(), headers=JSON))
    for answer in (told, streamed):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")


def test_a_body_of_exactly_the_limit_is_read(service):
    body = json.dumps(PAYMENT).encode()
    assert service.post(FRAUD_PATH, body + b" " * (64 * 1024 - len(body))).status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs.json", "/schema.json", "/v1/fraud/score/", "/V1/fraud/score", "//"])
def test_an_unknown_path_is_a_404(service, path):
    answer = asyncio.run(service.ask("GET", path))
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", FRAUD_PATH), ("DELETE", FRAUD_PATH), ("POST", "/livez")])
def test_another_method_is_a_405_that_names_the_right_one(service, method, path):
    answer = asyncio.run(service.ask(method, path))
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == ("GET" if path == "/livez" else "POST")


def test_before_a_model_is_loaded_the_answer_is_503(service):
    service.fraud = service.catalogue = None
    for path, body in ((FRAUD_PATH, PAYMENT), (RECOMMENDATIONS_PATH, VIEWER)):
        answer = service.post(path, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_ready")


def test_an_endpoint_that_raises_shows_no_trace(service):
    def broken(_view, _keys):
        raise ZeroDivisionError("secret c1")

    service.states = broken
    answer = service.post(FRAUD_PATH, PAYMENT)
    assert answer.status_code == 500
    assert answer.json() == {"error": {"code": "internal", "message": "the request could not be answered"}}
    assert isinstance(service.failed[0][1], ZeroDivisionError)


def test_too_many_at_once_are_refused_early_and_the_others_answered(service):
    async def crowd():
        body = json.dumps(PAYMENT).encode()
        asked = (service.ask("POST", FRAUD_PATH, content=body, headers=JSON) for _ in range(MAX_IN_FLIGHT + 40))
        return await asyncio.gather(*asked)

    answers = asyncio.run(crowd())
    statuses = [answer.status_code for answer in answers]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= MAX_IN_FLIGHT
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert service.post(FRAUD_PATH, PAYMENT).status_code == 200


def test_a_client_that_leaves_before_its_body_is_complete_gets_nothing(service):
    sent = []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": FRAUD_PATH, "headers": [(b"content-type", b"application/json")]}
    asyncio.run(service.app(scope, receive, send))
    assert not sent
    assert not service.logged


def test_a_body_that_does_not_come_is_not_waited_for(service, monkeypatch):
    monkeypatch.setattr("reference_system.serving.http.app.BODY_SECONDS", 0.01)

    async def never():
        yield b"{"
        await asyncio.Event().wait()

    answer = asyncio.run(service.ask("POST", FRAUD_PATH, content=never(), headers=JSON))
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "request_timeout")


def test_while_it_drains_the_service_closes_its_connections(service):
    assert "connection" not in service.post(FRAUD_PATH, PAYMENT).headers
    service.app.draining = True
    answer = service.post(FRAUD_PATH, PAYMENT)
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


def test_requests_are_counted_by_endpoint_and_status(service):
    service.post(FRAUD_PATH, PAYMENT)
    service.post(FRAUD_PATH, b"{")
    asyncio.run(service.ask("GET", "/nowhere"))
    page = service.metrics.text().decode()
    assert 'workbook_requests_total{endpoint="/v1/fraud/score",status="200"} 1.0' in page
    assert 'workbook_requests_total{endpoint="/v1/fraud/score",status="400"} 1.0' in page
    assert 'workbook_requests_total{endpoint="other",status="404"} 1.0' in page
    assert 'workbook_request_seconds_count{endpoint="/v1/fraud/score"} 2.0' in page


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=80) | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from([*PAYMENT, "event_timestamp", "viewer_id", "k", "other"])
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(json.dumps).map(str.encode),
    st.dictionaries(fields, json_values, max_size=5).map(lambda some: json.dumps({**PAYMENT, **some}).encode()),
    st.dictionaries(fields, json_values, max_size=3).map(lambda some: json.dumps({**VIEWER, **some}).encode()),
)


@settings(max_examples=100, deadline=None)
@given(body=bodies, path=st.sampled_from([FRAUD_PATH, RECOMMENDATIONS_PATH]))
def test_no_body_gives_a_server_error(body, path):
    answer = one_service().post(path, body)
    assert answer.status_code in {200, 400, 422}
    if answer.status_code != 200:
        msgspec.json.decode(answer.content, type=ProblemAnswer, strict=True)
