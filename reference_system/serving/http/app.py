"""HTTP: from a request's headers to an endpoint and back, as one ASGI application.

In: routes, each a function from a body to an answer. Out: one answer a request, JSON in one shape when refused.
Invariant: bodies are bounded before they are read; at most `MAX_IN_FLIGHT` requests wait, the next is refused at once;
what an endpoint raises never reaches the client as a trace.

A plain ASGI function and no framework: on this path a router and a request object cost more than the model.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import msgspec

from reference_system.serving.api import MAX_BODY_BYTES, ProblemAnswer, RequestRefused

JSON = b"application/json"
# 128 payments take about 40 ms: whoever waits longer has given up, or should.
MAX_IN_FLIGHT = 128
RETRY_AFTER_SECONDS = 1
# A body that has not come by then keeps one of the places from somebody else.
BODY_SECONDS = 10.0

_NOT_ENCODED = re.compile(rb"(?i)[ \t,]*(?:identity[ \t,]*)*")
# What is shown of a header that a stranger wrote.
_ENCODING = re.compile(rb"[A-Za-z0-9*+.-]{1,32}(?:, ?[A-Za-z0-9*+.-]{1,32}){0,3}")

# ASGI's own types: its messages are dictionaries.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """What is sent back."""

    body: bytes
    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Endpoint = Callable[[bytes], HttpAnswer]
Routes = Mapping[str, Mapping[str, Endpoint]]


class CountsAnswers(Protocol):
    """Where answered requests are counted."""

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """One request was answered."""
        ...


class HttpApp:
    """The routes as an ASGI application."""

    def __init__(self, routes: Routes, metrics: CountsAnswers, report: Callable[[str, Exception], None]) -> None:
        """Serve `routes`: path → method → endpoint; `report` hears of endpoints that raised."""
        self._routes = routes
        self._metrics = metrics
        self._report = report
        self._in_flight = 0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = perf_counter()
        path, method = scope["path"], scope["method"]
        self._in_flight += 1
        try:
            answer = await self._answer(path, method, scope, receive)
        finally:
            self._in_flight -= 1
        if answer is None:  # the client is gone
            return
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            *answer.headers,
        ]
        if self.draining:
            headers.append((b"connection", b"close"))
        self._metrics.answered(path if path in self._routes else "other", answer.status, perf_counter() - started)
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})

    async def _answer(self, path: str, method: str, scope: Scope, receive: Receive) -> HttpAnswer | None:
        try:
            endpoint = self._endpoint(path, method)
            body: bytes | None = b""
            if method == "POST":
                if self._in_flight > MAX_IN_FLIGHT:
                    return refusal(_overloaded())
                # Everybody who has come in by now is counted before anybody is answered: otherwise a queue would
                # form in the event loop, where no counter sees it.
                await asyncio.sleep(0)
                _check_headers(scope["headers"])
                body = await self._body(receive)
            return None if body is None else endpoint(body)
        except RequestRefused as refused:
            return refusal(refused)
        except Exception as error:  # noqa: BLE001 - the last resort: no trace may reach a client
            self._report(path, error)
            return refusal(RequestRefused(500, "internal", "the request could not be answered"))

    @staticmethod
    async def _body(receive: Receive) -> bytes | None:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await _read(receive)
        except TimeoutError as error:
            raise RequestRefused(408, "request_timeout", f"the body did not come in {BODY_SECONDS:g} s") from error

    def _endpoint(self, path: str, method: str) -> Endpoint:
        methods = self._routes.get(path)
        if methods is None:
            raise RequestRefused(404, "not_found", "there is nothing at this path; / lists what there is")
        endpoint = methods.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = ", ".join(methods)
            header = (b"allow", allowed.encode())
            raise RequestRefused(405, "method_not_allowed", f"this path takes {allowed}", headers=(header,))
        return endpoint


def refusal(refused: RequestRefused) -> HttpAnswer:
    """A refusal in the one shape that all have."""
    body = msgspec.json.encode(ProblemAnswer(error=refused.problem))
    return HttpAnswer(status=refused.status, body=body, headers=refused.headers)


def _overloaded() -> RequestRefused:
    message = f"{MAX_IN_FLIGHT} requests wait already; come back later"
    return RequestRefused(429, "overloaded", message, headers=((b"retry-after", str(RETRY_AFTER_SECONDS).encode()),))


def _check_headers(headers: list[tuple[bytes, bytes]]) -> None:
    content_type = b""
    for name, value in headers:
        if name == b"content-type":
            content_type = value
        elif name == b"content-encoding" and not _NOT_ENCODED.fullmatch(value):
            raise _encoded(value)
        elif name == b"content-length" and (not value.isdigit() or int(value) > MAX_BODY_BYTES):
            raise _too_large()
    if content_type.partition(b";")[0].strip().lower() != JSON:
        raise RequestRefused(415, "unsupported_media_type", "the content type must be application/json")


def _encoded(encoding: bytes) -> RequestRefused:
    """A body that would have to be unpacked: the bound on its size would not be one on what it holds."""
    name = f"{encoding.decode()} " if _ENCODING.fullmatch(encoding) else ""
    message = f"the content encoding {name}is not read: send the body as it is"
    # By this header a client tells that its encoding is to blame and not its type (RFC 7694).
    return RequestRefused(415, "unsupported_media_type", message, headers=((b"accept-encoding", b"identity"),))


async def _read(receive: Receive) -> bytes | None:
    """The body; `None` if the client left before its end."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large() -> RequestRefused:
    return RequestRefused(413, "body_too_large", f"a body has at most {MAX_BODY_BYTES} bytes")
