"""What MLflow's answers about an alias mean. The bodies are those of its 3.17 server."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from reference_system.errors import ServiceError
from reference_system.serving.mlflow_alias import champion_alias

UNKNOWN_MODEL = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Registered Model with name=fraud not found"}
UNKNOWN_ALIAS = {"error_code": "INVALID_PARAMETER_VALUE", "message": "Registered model alias champion not found."}


@pytest.fixture
def registry():
    """A server that answers with what a test puts into `answer`; `asked` is the last path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = self.server.answer
            self.server.asked = self.path
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_version_with_the_alias_is_told(registry):
    registry.answer = (200, {"model_version": {"name": "fraud", "version": "7", "aliases": ["champion"]}})
    assert champion_alias(registry.server_port, "fraud") == "7"
    assert registry.asked.endswith("alias?name=fraud&alias=champion")


@pytest.mark.parametrize(("status", "body"), [(404, UNKNOWN_MODEL), (400, UNKNOWN_ALIAS)])
def test_before_the_first_promotion_there_is_none(registry, status, body):
    registry.answer = (status, body)
    assert champion_alias(registry.server_port, "fraud") is None


@pytest.mark.parametrize(("status", "body"), [(500, b"oops"), (200, b"<html>"), (200, {"version": "7"})])
def test_another_answer_is_no_statement_about_the_champion(registry, status, body):
    registry.answer = (status, body)
    with pytest.raises(ServiceError):
        champion_alias(registry.server_port, "fraud")


def test_a_registry_that_is_away_is_a_service_error():
    with pytest.raises(ServiceError, match="does not answer"):
        champion_alias(1, "fraud")
