"""A client of the real-time service, which sends requests like a shop and an app.

In: payments to score and viewers who open a page. Out: answers, or `None` where there was none in time; every request
is counted by its outcome.
Invariant: a slow or unavailable service delays a batch of requests by at most `REQUEST_SECONDS` and loses no event:
after the first failed request of a batch, those not sent yet are skipped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
import msgspec

from reference_system.event_time import moment_of
from reference_system.world.columns import WORLD_PAGE_LENGTH, PageRequests, PaymentColumns
from reference_system.world.records import numbered_ids, transaction_ids

REQUEST_SECONDS = 1.0
CONCURRENCY = 16
SCORE, RECOMMEND = "/v1/fraud/score", "/v1/recommendations"
_OK = 200
_JSON = {"Content-Type": "application/json"}

CountRequest = Callable[[str, str], None]
_Decoded = TypeVar("_Decoded", bound="ScoreAnswer | PageAnswer")


class ScoreAnswer(msgspec.Struct, frozen=True):
    """The fields read from the answer for a payment."""

    decision: str
    degraded: bool


class _Item(msgspec.Struct, frozen=True):
    video_id: str
    propensity: float = 1.0


class PageAnswer(msgspec.Struct, frozen=True):
    """The fields read from the answer for a page."""

    prediction_id: str
    items: tuple[_Item, ...]
    model_version: str
    degraded: bool


class ServingClient:
    """A client that sends a batch of requests and waits for all of them; a context manager."""

    def __init__(self, url: str, count: CountRequest) -> None:
        """Take the service's address and a counter of `(endpoint, outcome)`; no connection is opened yet."""
        self._url = url
        self._count = count
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession | None = None

    def __enter__(self) -> Self:
        """Open the connection pool."""
        self._runner.run(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        if self._session is not None:
            self._runner.run(self._session.close())
        self._runner.close()

    def score(self, payments: PaymentColumns) -> list[ScoreAnswer | None]:
        """Request the decisions about payments."""
        bodies = [
            {
                "transaction_id": transaction,
                "customer_id": customer,
                "terminal_id": terminal,
                "amount": amount,
                "event_timestamp": moment_of(time),
            }
            for transaction, customer, terminal, amount, time in zip(
                transaction_ids(payments.times).tolist(),
                numbered_ids("c", payments.customers).tolist(),
                numbered_ids("t", payments.terminals).tolist(),
                payments.amounts.tolist(),
                payments.times.tolist(),
                strict=True,
            )
        ]
        return self._runner.run(self._ask_all(SCORE, bodies, ScoreAnswer))

    def recommend(self, requests: PageRequests) -> list[PageAnswer | None]:
        """Request pages for viewers."""
        bodies = [
            {"viewer_id": viewer, "k": WORLD_PAGE_LENGTH, "event_timestamp": moment_of(time)}
            for viewer, time in zip(numbered_ids("v", requests.viewers).tolist(), requests.times.tolist(), strict=True)
        ]
        return self._runner.run(self._ask_all(RECOMMEND, bodies, PageAnswer))

    async def _open(self) -> None:
        self._session = aiohttp.ClientSession(
            self._url,
            headers=_JSON,
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
            connector=aiohttp.TCPConnector(limit=CONCURRENCY),
        )

    async def _ask_all(
        self, endpoint: str, bodies: Sequence[dict[str, object]], kind: type[_Decoded]
    ) -> list[_Decoded | None]:
        answers: list[_Decoded | None] = [None] * len(bodies)
        waiting = iter(enumerate(bodies))
        failed = False

        async def ask_on() -> None:
            nonlocal failed
            for place, body in waiting:
                outcome, answers[place] = ("skipped", None) if failed else await self._ask(endpoint, body, kind)
                failed = failed or outcome == "failed"
                self._count(endpoint, outcome)

        await asyncio.gather(*(ask_on() for _ in range(min(CONCURRENCY, len(bodies)))))
        return answers

    async def _ask(self, endpoint: str, body: dict[str, object], kind: type[_Decoded]) -> tuple[str, _Decoded | None]:
        """The outcome and the answer: answered, degraded, refused (a status other than 200) or failed."""
        assert self._session is not None  # noqa: S101 - the context manager opened it
        try:
            async with self._session.post(endpoint, data=msgspec.json.encode(body)) as response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return "failed", None
        if response.status != _OK:
            return "refused", None
        try:
            answer = msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError:
            return "refused", None
        return ("degraded" if answer.degraded else "answered"), answer
