"""The first score and the first recommendation of a system that has just come up.

In: a healthy real-time service. Out: what was asked and what it answered, in one line each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from reference_system.clock import wall_seconds
from reference_system.errors import ServiceError
from reference_system.stack.local_http import ask

if TYPE_CHECKING:
    from reference_system.settings import Settings

# The first request of a process pays for imports and caches.
_TIMEOUT_SECONDS = 30.0
_SHOWN = 160
_OK = 200


class ScoreRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST /v1/fraud/score` takes."""

    transaction_id: str
    customer_id: str
    terminal_id: str
    amount: float


class FirstRecommendation(msgspec.Struct, frozen=True, kw_only=True):
    """What `POST /v1/recommendations` takes."""

    viewer_id: str
    k: int


def first_score(settings: Settings) -> str:
    """Score one payment of a known customer.

    Raises:
        ServiceError: the service refuses it or does not answer.
    """
    request = ScoreRequest(
        transaction_id=f"first-{wall_seconds():.0f}", customer_id="c000001", terminal_id="t000001", amount=42.5
    )
    return _post(settings, "/v1/fraud/score", request)


def first_recommendation(settings: Settings) -> str:
    """Recommend for one known viewer.

    Raises:
        ServiceError: the service refuses it or does not answer.
    """
    return _post(settings, "/v1/recommendations", FirstRecommendation(viewer_id="v000001", k=5))


def _post(settings: Settings, path: str, request: msgspec.Struct) -> str:
    try:
        answer = ask(settings.port("serving"), path, body=msgspec.json.encode(request), timeout=_TIMEOUT_SECONDS)
    except OSError as error:
        raise ServiceError(f"POST {path} got no answer: {error}", next_command="workbook logs serving") from error
    text = answer.body.decode("utf-8", errors="replace")
    if answer.status != _OK:
        raise ServiceError(
            f"POST {path} answered {answer.status}: {text[:_SHOWN]}", next_command="workbook logs serving"
        )
    return f"POST {path} → {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"
