"""Which version carries the alias `champion`, asked of MLflow's REST API.

In: a use case. Out: a version, or `None` if nobody was promoted.
Invariant: at most `_TIMEOUT_SECONDS` of waiting. The service asks every few seconds, and MLflow's own client would
cost it as much memory as everything else together.
"""

from __future__ import annotations

import http.client
from urllib.parse import urlencode

import msgspec

from reference_system.errors import ServiceError
from reference_system.settings import LOOPBACK

_TIMEOUT_SECONDS = 2.0
_OK, _NOT_FOUND = 200, 404


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """The part of MLflow's answer that matters here."""

    version: str


class AliasAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """MLflow's answer."""

    model_version: ModelVersion


def champion_alias(port: int, use_case: str) -> str | None:
    """The version with the alias `champion` in the registry on that port.

    Raises:
        ServiceError: if MLflow is away or answers with something else.
    """
    query = urlencode({"name": use_case, "alias": "champion"})
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"/api/2.0/mlflow/registered-models/alias?{query}")
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(f"MLflow does not answer on port {port}: {error}") from error
    finally:
        connection.close()
    if response.status == _NOT_FOUND or b"RESOURCE_DOES_NOT_EXIST" in body or b"INVALID_PARAMETER_VALUE" in body:
        return None
    if response.status != _OK:
        raise ServiceError(f"MLflow answered {response.status} when asked for the champion of {use_case}")
    try:
        return msgspec.json.decode(body, type=AliasAnswer).model_version.version
    except msgspec.MsgspecError as error:
        raise ServiceError(f"MLflow's answer about the champion of {use_case} is not what it used to be") from error
