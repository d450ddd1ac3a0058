"""A small service with the real paths, for tests of the load generator: it can stall, fail and hang on demand.

In: requests. Out: instant answers, but for a stall of the whole process at one chosen request.
Run as `python tests/load_stand_in.py PORT`; the rest comes from the environment.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn

# The request (counted from 1) at which the whole process sleeps, and for how long.
STALL_AT = int(os.environ.get("STALL_AT", "0"))
STALL_SECONDS = float(os.environ.get("STALL_SECONDS", "0.5"))
# Every so many requests are answered with 503; 0 for none.
FAIL_EVERY = int(os.environ.get("FAIL_EVERY", "0"))
HANG = bool(os.environ.get("HANG"))
DEGRADED = bool(os.environ.get("DEGRADED"))

# ASGI
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

served = 0
payments: list[dict[str, object]] = []


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    path, body = scope["path"], b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    status, answer = await respond(path, body)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": answer})


async def respond(path: str, body: bytes) -> tuple[int, bytes]:
    global served  # noqa: PLW0603 - the whole state of this stand-in
    if path == "/readyz":
        return 200, b"{}"
    if path == "/metrics":
        return 200, f"# TYPE workbook_requests_total counter\nworkbook_requests_total {served}\n".encode()
    if path == "/payments":
        return 200, msgspec.json.encode(payments)
    served += 1
    if path == "/v1/fraud/score":
        payments.append(msgspec.json.decode(body))
    if served == STALL_AT:
        time.sleep(STALL_SECONDS)  # noqa: ASYNC251 - a stall of the event loop is the point
    if HANG:
        await asyncio.sleep(60)
    if FAIL_EVERY and served % FAIL_EVERY == 0:
        return 503, b'{"error": {"code": "not_ready", "message": "no model"}}'
    return 200, msgspec.json.encode({"degraded": DEGRADED})


if __name__ == "__main__":
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
