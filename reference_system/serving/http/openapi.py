"""The OpenAPI document, generated from the records that decode and encode the API.

In: `api.py`. Out: `docs/openapi.json` and `GET /openapi.json`, the same bytes.
"""

from __future__ import annotations

from functools import cache

import msgspec

from reference_system.event_shapes import without_indentation
from reference_system.serving.api import (
    FraudScoreAnswer,
    FraudScoreRequest,
    ProblemAnswer,
    RecommendationAnswer,
    RecommendationRequest,
)

JsonObject = dict[str, object]

_REFUSALS = {
    "400": "The body is not JSON in UTF-8 without a byte order mark.",
    "408": "The body did not come in time.",
    "413": "The body is larger than 64 KiB.",
    "415": "The content type is not application/json, or the body has a content encoding; that is named.",
    "422": "A field is unknown, missing, there twice, of another type or out of its range; it is named.",
    "429": "Too many requests wait already; Retry-After says when to come back.",
    "503": "No verified model is loaded yet.",
}
_PLAIN_PAGES = {
    "/readyz": ("Whether a verified model of each use case is loaded and the service is not stopping.", "503"),
    "/livez": ("Whether the process answers; asks no dependency.", None),
    "/metrics": ("Metrics for Prometheus.", None),
    "/openapi.json": ("This document.", None),
    "/": ("A page for people.", None),
}


@cache
def document() -> bytes:
    """The document as JSON, ending with a newline."""
    records = (FraudScoreRequest, FraudScoreAnswer, RecommendationRequest, RecommendationAnswer, ProblemAnswer)
    references, components = msgspec.json.schema_components(records, ref_template="#/components/schemas/{name}")
    score, scored, recommend, recommended, problem = references
    paths: JsonObject = {
        "/v1/fraud/score": _post("Score a card payment", "scoreFraud", score, scored, problem),
        "/v1/recommendations": _post("Recommend a page of videos", "recommend", recommend, recommended, problem),
    }
    for path, (summary, refused) in _PLAIN_PAGES.items():
        answers: JsonObject = {"200": {"description": "Yes."}}
        if refused:
            answers[refused] = {"description": "No."}
        paths[path] = {"get": {"summary": summary, "responses": answers}}
    schemas = {"schemas": without_indentation(components)}
    info = {"title": "Real-time predictions", "version": "1", "summary": "Fraud scores and video recommendations."}
    found = {"openapi": "3.1.0", "info": info, "paths": paths, "components": schemas}
    return msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=2) + b"\n"


def _post(summary: str, operation: str, request: JsonObject, answer: JsonObject, problem: JsonObject) -> JsonObject:
    def body(schema: JsonObject) -> JsonObject:
        return {"application/json": {"schema": schema}}

    refusals = {status: {"description": text, "content": body(problem)} for status, text in _REFUSALS.items()}
    return {
        "post": {
            "summary": summary,
            "operationId": operation,
            "requestBody": {"required": True, "content": body(request)},
            "responses": {"200": {"description": "The answer.", "content": body(answer)}, **refusals},
        }
    }
