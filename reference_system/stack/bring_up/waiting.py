"""Waiting, with a deadline and a sentence: a service starts when what it needs is healthy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from reference_system.errors import ServiceError
from reference_system.stack.services import service_named

if TYPE_CHECKING:
    from collections.abc import Callable

    from reference_system.settings import Settings
    from reference_system.stack.services import Service

_POLL_SECONDS = 0.25


def wait_for_needs(settings: Settings, service: Service, *, say: Callable[[str], None] = print) -> None:
    """Return when every service that this one needs is healthy; what it waits for goes to its log.

    Raises:
        ServiceError: one of them is not healthy within `settings.ready_seconds`.
    """
    for need in service.needs:
        needed = service_named(settings, need)
        problem = needed.health.problem()
        if problem is None:
            continue
        say(f"{service.name} waits for {need} at {needed.url}: {problem}")
        deadline = time.monotonic() + settings.ready_seconds
        while (problem := needed.health.problem()) is not None:
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{service.name} waited {settings.ready_seconds:g} s for {need} at {needed.url}: {problem}",
                    next_command=f"workbook logs {need}",
                )
            time.sleep(_POLL_SECONDS)
        say(f"{need} is healthy")
