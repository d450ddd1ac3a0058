"""The HTTP API's records, and the one place where a request's bytes become one of them.

In: bytes. Out: a request, or `RequestRefused` with the status, the field and what was expected.
Invariant: a refusal never shows a trace, and never a value that was sent.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from reference_system.event_shapes import AN_ID, pairs_of, repeated_key
from reference_system.event_shapes import CheckedId as Id
from reference_system.events import EARLIEST, FUTURE_TOLERANCE, Moment, whole_microseconds
from reference_system.use_cases.fraud.policy import Decision

MAX_BODY_BYTES = 64 * 1024
DEFAULT_PAGE = 10
# Only ids have a pattern.
_NOT_THE_PATTERN = "Expected `str` matching regex"
_FIELD = re.compile(r"`\$((?:\.[^`]*|\[[^`]*)?)`")
_NAMED_FIELD = re.compile(r"field `(.*?)`(?: - at `\$|\Z)", re.DOTALL)
# A name that a stranger chose is shown only so far.
_MAX_SHOWN = 64

Score = Annotated[float, Meta(ge=0.0, le=1.0)]
# What waits for a decision is paid, not refunded.
RequestAmount = Annotated[float, Meta(ge=0.0, le=1e12)]
Source = Literal["neighbours", "factors", "newest", "popular"]


class FraudScoreRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment that waits for a decision. Without `event_timestamp` it happens now, on the event clock."""

    transaction_id: Id
    customer_id: Id
    terminal_id: Id
    amount: RequestAmount
    event_timestamp: Moment | None = None


class FraudScoreAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The score, what the policy makes of it, and why. `score` is null where a rule decided without the model."""

    prediction_id: Id
    transaction_id: Id
    score: Score | None
    decision: Decision
    reasons: tuple[str, ...]
    model_version: str
    feature_age_seconds: float | None
    degraded: bool
    event_timestamp: datetime
    created_timestamp: datetime


class RecommendationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A viewer who opens a page with `k` places."""

    viewer_id: Id
    k: Annotated[int, Meta(ge=1, le=50)] = DEFAULT_PAGE
    event_timestamp: Moment | None = None


class RecommendedVideo(msgspec.Struct, frozen=True, kw_only=True):
    """One place of a page; `source` is what named the video as a candidate. A degraded page has no scores.

    `propensity` is the probability with which the policy shows this video in this place: log it with the impression.
    """

    video_id: Id
    score: Score | None
    source: Source
    propensity: Score = 1.0


class RecommendationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A page, best video first."""

    prediction_id: Id
    viewer_id: Id
    items: tuple[RecommendedVideo, ...]
    model_version: str
    feature_age_seconds: float | None
    degraded: bool
    event_timestamp: datetime
    created_timestamp: datetime


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not answered, and the field that is to blame, where one is."""

    code: str
    message: str
    field: str | None = None


class ProblemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The one shape of every refusal."""

    error: Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerIdentity:
    """One answer's identity: its id, who answers, the moment asked about and the moment of answering."""

    prediction_id: str
    model_version: str
    moment: datetime
    now: datetime


class RequestRefused(Exception):  # noqa: N818 - refusing is what the service does; the error is the client's
    """A request that gets no answer: the HTTP status, a code for programs, a message for people, headers."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """Store what the answer will say."""
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.problem = Problem(code=code, message=message, field=field)


Request = TypeVar("Request", FraudScoreRequest, RecommendationRequest)


def decode_request(decoder: msgspec.json.Decoder[Request], body: bytes) -> Request:
    """The request that the bytes hold.

    Raises:
        RequestRefused: 400 if they are no JSON, 422 if they are not such a request, or hold a key twice.
    """
    try:
        request = decoder.decode(whole_microseconds(body))
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except RecursionError as error:
        raise RequestRefused(422, "invalid_field", "the body is nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(body) from error
    repeated = repeated_key(pairs_of(body))
    if repeated is not None:
        raise RequestRefused(422, "invalid_field", f"the key `{repeated}` stands more than once", field=repeated)
    return request


def moment_asked(asked: datetime | None, now: datetime) -> datetime:
    """The moment that a request asks about.

    Raises:
        RequestRefused: 422 if it lies in the future, or before anything that this system can know.
    """
    if asked is None:
        return now
    if not EARLIEST <= asked <= now + FUTURE_TOLERANCE:
        bounds = f"between {EARLIEST.isoformat()} and five minutes after the event clock's {now.isoformat()}"
        raise RequestRefused(422, "invalid_field", f"event_timestamp must lie {bounds}", field="event_timestamp")
    return asked


def _invalid(message: str) -> RequestRefused:
    """A 422 from msgspec's message, which names the field by its path or, for a missing or unknown one, by name."""
    path = _FIELD.search(message)
    named = _NAMED_FIELD.search(message)
    field = named.group(1) if named else (path.group(1).lstrip(".") or None) if path else None
    expected = message.split(" - at `$", maxsplit=1)[0]
    if expected.startswith(_NOT_THE_PATTERN):
        expected = f"Expected an id, which is {AN_ID}"
    if field is not None and len(field) > _MAX_SHOWN:
        expected, field = expected.replace(field, field[:_MAX_SHOWN] + "…"), field[:_MAX_SHOWN] + "…"
    return RequestRefused(422, "invalid_field", expected, field=field)


def _not_json(body: bytes) -> RequestRefused:
    """400, unless a looser parser finds numbers that JSON does not have: then the field with that number, 422."""
    try:
        found = json.loads(body, parse_int=float)
    except RecursionError:
        return RequestRefused(422, "invalid_field", "the body is nested too deeply")
    except ValueError:
        return RequestRefused(400, "malformed_json", "the body is not JSON in UTF-8")
    if isinstance(found, dict):
        for name, value in found.items():
            if isinstance(value, float) and not math.isfinite(value):
                return RequestRefused(422, "invalid_field", "Expected a finite number", field=name[:_MAX_SHOWN])
    return RequestRefused(400, "malformed_json", "the body is not JSON in UTF-8")
