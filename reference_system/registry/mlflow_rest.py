"""MLflow's registry over its REST API: aliases, tags and versions, without MLflow's client.

In: the server's port. Out: records of what the registry says; aliases and tags set.
Invariant: at most `MLFLOW_SECONDS` of waiting for each question. Verbs that start in a moment, and the service, use
this; importing MLflow takes seconds and as much memory as everything else together.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from reference_system.errors import ServiceError
from reference_system.settings import LOOPBACK

_Decoded = TypeVar("_Decoded")
MLFLOW_SECONDS = 5.0
_OK, _NOT_FOUND = 200, 404
_PAGE_VERSIONS = 200
# What MLflow says where there is no such model, version or alias.
_NOTHING = (b"RESOURCE_DOES_NOT_EXIST", b"INVALID_PARAMETER_VALUE")


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A key with its value."""

    key: str
    value: str = ""


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version, the part of MLflow's answer that matters here."""

    version: str
    run_id: str = ""
    tags: tuple[Tag, ...] = ()

    def tag(self, key: str) -> str | None:
        """The value of a tag."""
        return next((tag.value for tag in self.tags if tag.key == key), None)


class _Alias(msgspec.Struct, frozen=True, kw_only=True):
    model_version: Version


class _Versions(msgspec.Struct, frozen=True, kw_only=True):
    model_versions: tuple[Version, ...] = ()
    next_page_token: str = ""


def get_alias(port: int, use_case: str, alias: str) -> str | None:
    """The version that an alias points at, or `None`.

    Raises:
        ServiceError: if MLflow is away or answers with something else. So do the other functions.
    """
    body = _ask(port, "GET", "registered-models/alias", query={"name": use_case, "alias": alias})
    return None if body is None else _decoded(body, _Alias).model_version.version


def set_alias(port: int, use_case: str, alias: str, version: str) -> None:
    """Point an alias at a version."""
    said = {"name": use_case, "alias": alias, "version": version}
    if _ask(port, "POST", "registered-models/alias", body=said) is None:
        raise ServiceError(f"MLflow knows no version {version} of {use_case}")


def delete_alias(port: int, use_case: str, alias: str) -> None:
    """Remove an alias; it need not be there."""
    _ask(port, "DELETE", "registered-models/alias", body={"name": use_case, "alias": alias})


def set_version_tag(port: int, use_case: str, version: str, key: str, value: str) -> None:
    """Leave a tag at a version."""
    said = {"name": use_case, "version": version, "key": key, "value": value}
    if _ask(port, "POST", "model-versions/set-tag", body=said) is None:
        raise ServiceError(f"MLflow knows no version {version} of {use_case}")


def versions(port: int, use_case: str) -> tuple[Version, ...]:
    """The registered versions of a use case, the newest first; none if it was never registered."""
    asked = {"filter": f"name='{use_case}'", "max_results": str(_PAGE_VERSIONS)}
    found: list[Version] = []
    while (body := _ask(port, "GET", "model-versions/search", query=asked)) is not None:
        page = _decoded(body, _Versions)
        found += page.model_versions
        if not page.next_page_token:
            break
        asked["page_token"] = page.next_page_token
    return tuple(sorted(found, key=lambda one: -int(one.version)))


def artefact(port: int, run_id: str, path: str) -> bytes | None:
    """The bytes of a run's artefact, or `None` if it has no such artefact."""
    query = urlencode({"run_uuid": run_id, "path": path})
    status, body = _request(port, "GET", f"/get-artifact?{query}", None)
    return body if status == _OK else None


def _ask(
    port: int, method: str, what: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, str] | None = None
) -> bytes | None:
    """MLflow's answer; `None` where there is no such thing."""
    path = f"/api/2.0/mlflow/{what}" + (f"?{urlencode(query)}" if query else "")
    status, answer = _request(port, method, path, None if body is None else msgspec.json.encode(body))
    if status == _OK:
        return answer
    if status == _NOT_FOUND or any(word in answer for word in _NOTHING):
        return None
    raise ServiceError(f"MLflow answered {status} to {method} {what}", next_command="workbook logs mlflow")


def _request(port: int, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=MLFLOW_SECONDS)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(f"MLflow does not answer on port {port}: {error}") from error
    finally:
        connection.close()


def _decoded(body: bytes, of: type[_Decoded]) -> _Decoded:
    try:
        return msgspec.json.decode(body, type=of)
    except msgspec.MsgspecError as error:
        raise ServiceError(f"MLflow's answer is not what it used to be: {error}") from error
