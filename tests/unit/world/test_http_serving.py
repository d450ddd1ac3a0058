"""The world's client against real HTTP servers on this machine."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import pytest
from aiohttp import web

from reference_system.clock import wall_seconds
from reference_system.event_time import micros
from reference_system.settings import LOOPBACK
from reference_system.world.columns import PageRequests, PaymentColumns
from reference_system.world.http_serving import CONCURRENCY, REQUEST_SECONDS, ServingClient

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve one handler at every path; the answer is the server's address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> str:
        application = web.Application()
        application.router.add_post("/{path:.*}", handler)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        await web.TCPSite(runner, LOOPBACK, 0).start()
        return f"http://{LOOPBACK}:{runner.addresses[0][1]}"

    async def stop() -> None:
        for runner in runners:
            await runner.cleanup()
        # A handler that hangs outlives its server; a loop that is closed over it complains when the process ends.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    yield lambda handler: asyncio.run_coroutine_threadsafe(start(handler), loop).result(10)
    asyncio.run_coroutine_threadsafe(stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


def payments(count: int) -> PaymentColumns:
    return PaymentColumns(
        times=np.arange(count) + 1_743_897_600_000_000,
        customers=np.arange(count),
        terminals=np.arange(count),
        amounts=np.full(count, 12.5),
        frauds=np.zeros(count, np.bool_),
    )


def requests(count: int) -> PageRequests:
    times = np.arange(count) + 1_743_897_600_000_000
    return PageRequests(times=times, viewers=np.arange(count), sessions=times, numbers=np.zeros(count, np.int64))


@pytest.fixture
def counted() -> Counter[tuple[str, str]]:
    return Counter()


@pytest.fixture
def client_of(counted: Counter[tuple[str, str]]) -> Callable[[str], ServingClient]:
    return lambda url: ServingClient(url, lambda endpoint, outcome: counted.update([(endpoint, outcome)]))


def test_payments_are_asked_about_as_the_api_wants_it(serve: Serve, client_of, counted):
    bodies: list[dict[str, object]] = []

    async def score(request: web.Request) -> web.Response:
        assert request.path == "/v1/fraud/score"
        bodies.append(await request.json())
        return web.json_response({"decision": "block", "degraded": False, "score": 0.9})

    with client_of(serve(score)) as client:
        answers = client.score(payments(40))
    assert [answer.decision for answer in answers] == ["block"] * 40
    assert counted == {("/v1/fraud/score", "answered"): 40}
    assert min(bodies, key=lambda body: str(body["transaction_id"])) == {
        "transaction_id": "p1743897600000000",
        "customer_id": "c000001",
        "terminal_id": "t000001",
        "amount": 12.5,
        "event_timestamp": "2025-04-06T00:00:00Z",
    }


def test_answers_come_in_the_order_of_the_requests(serve: Serve, client_of):
    async def recommend(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(0.02 if body["viewer_id"] == "v000001" else 0.0)
        page = {"prediction_id": body["viewer_id"], "items": [{"video_id": "m000001", "score": 0.1}]}
        return web.json_response({**page, "model_version": "4", "degraded": True})

    with client_of(serve(recommend)) as client:
        answers = client.recommend(requests(30))
    assert [answer.prediction_id for answer in answers] == [f"v{number:06d}" for number in range(1, 31)]
    assert answers[0].items[0].video_id == "m000001"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda: web.json_response({"decision": "approve", "degraded": True}), "degraded"),
        (lambda: web.json_response({"error": {"code": "invalid_field"}}, status=422), "refused"),
        (lambda: web.Response(text="not JSON"), "refused"),
        (lambda: web.json_response({"decision": 3, "degraded": False}), "refused"),
    ],
)
def test_every_answer_is_counted_by_its_outcome(serve: Serve, client_of, counted, answer, outcome: str):
    async def score(_request: web.Request) -> web.Response:
        return answer()

    with client_of(serve(score)) as client:
        client.score(payments(3))
    assert counted == {("/v1/fraud/score", outcome): 3}


def test_a_service_that_is_gone_costs_a_few_failures_and_no_time(client_of, counted):
    with client_of("http://127.0.0.1:9") as client:
        assert client.score(payments(100)) == [None] * 100
    assert counted["/v1/fraud/score", "failed"] <= CONCURRENCY
    assert sum(counted.values()) == 100


def test_a_service_that_hangs_costs_a_batch_one_timeout(serve: Serve, client_of, counted):
    async def hang(_request: web.Request) -> web.Response:
        await asyncio.sleep(20)
        return web.Response()

    began = wall_seconds()
    with client_of(serve(hang)) as client:
        assert client.recommend(requests(60)) == [None] * 60
    assert wall_seconds() - began < 5 * REQUEST_SECONDS
    assert counted == {
        ("/v1/recommendations", "failed"): CONCURRENCY,
        ("/v1/recommendations", "skipped"): 60 - CONCURRENCY,
    }


def test_a_service_that_comes_back_is_used_again_with_the_next_batch(serve: Serve, client_of, counted):
    broken = True

    async def score(request: web.Request) -> web.Response:
        if broken:
            assert request.transport is not None
            request.transport.close()
        return web.json_response({"decision": "approve", "degraded": False})

    with client_of(serve(score)) as client:
        client.score(payments(20))
        broken = False
        client.score(payments(20))
    assert counted["/v1/fraud/score", "answered"] == 20


def test_moments_keep_their_microseconds(serve: Serve, client_of, settings):
    seen: list[str] = []

    async def score(request: web.Request) -> web.Response:
        seen.append((await request.json())["event_timestamp"])
        return web.json_response({"decision": "approve", "degraded": False})

    paid = payments(1)
    paid.times[0] = micros(settings.history_start) + 123_456
    with client_of(serve(score)) as client:
        client.score(paid)
    assert seen == ["2025-01-06T00:00:00.123456Z"]
