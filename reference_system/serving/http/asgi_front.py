"""Our application before BentoML's own.

In: every ASGI event of the server. Out: HTTP requests to us, the rest (start and stop) to BentoML.
"""

from __future__ import annotations

from typing import Protocol

from reference_system.serving.http.app import HttpApp, Receive, Scope, Send


class Asgi(Protocol):
    """An ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take one event."""
        ...


class Front:
    """Takes every HTTP request once there is an application of ours; before that, BentoML answers."""

    app: HttpApp | None = None

    def __init__(self, app: Asgi) -> None:
        """Stand before `app`."""
        self._behind = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "http" and Front.app is not None:
            await Front.app(scope, receive, send)
        else:
            await self._behind(scope, receive, send)
