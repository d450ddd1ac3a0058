"""HTTP to our own services on loopback: no proxy, no redirect, one short timeout."""

from __future__ import annotations

import http.client

import msgspec

from reference_system.settings import LOOPBACK

TIMEOUT_SECONDS = 2.0


class HttpReply(msgspec.Struct, frozen=True, kw_only=True):
    """What a service said."""

    status: int
    body: bytes


def ask(
    port: int,
    path: str,
    *,
    body: bytes | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> HttpReply:
    """GET a path, or POST a JSON body to it.

    Raises:
        OSError: if nobody answers in time, or what answers does not speak HTTP.
    """
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout)
    try:
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body=body, headers=headers)
        response = connection.getresponse()
        return HttpReply(status=response.status, body=response.read())
    except http.client.HTTPException as error:
        raise OSError(f"port {port} does not speak HTTP: {error!r}") from error
    finally:
        connection.close()
