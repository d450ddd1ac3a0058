from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reference_system.clock import wall_seconds
from reference_system.settings import Settings
from reference_system.stack.health import AcceptsConnections, AnswersHttp, HeartbeatIsFresh
from reference_system.stack.metrics_page import read_metrics


class Pages(BaseHTTPRequestHandler):
    pages: dict[str, str]

    def do_GET(self) -> None:
        body = self.pages.get(self.path)
        self.send_response(503 if body is None else 200)
        self.end_headers()
        self.wfile.write((body or "").encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def pages(settings: Settings) -> Iterator[dict[str, str]]:
    handler = type("Handler", (Pages,), {"pages": {}})
    server = ThreadingHTTPServer(("127.0.0.1", settings.port("serving")), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield handler.pages
    server.shutdown()
    server.server_close()


def test_nobody_there_is_one_sentence_for_every_check(settings: Settings) -> None:
    port = settings.port("serving")

    assert AcceptsConnections(port).problem() == f"port {port} does not accept connections"
    assert AnswersHttp(port, "/readyz").problem() == f"port {port} does not answer"
    assert HeartbeatIsFresh(port).problem() == f"port {port} does not answer"


def test_an_answer_other_than_2xx_is_a_problem(settings: Settings, pages: dict[str, str]) -> None:
    health = AnswersHttp(settings.port("serving"), "/readyz")
    assert health.problem() == "/readyz answers 503"

    pages["/readyz"] = "ok"
    assert health.problem() is None


def test_what_does_not_speak_http_is_a_problem_and_not_an_exception(settings: Settings) -> None:
    port = settings.port("serving")

    def babble(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"\x00\x01 what?\n")

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        threading.Thread(target=babble, args=(listener,), daemon=True).start()
        assert AnswersHttp(port, "/readyz").problem() == f"port {port} does not answer"


def test_an_old_heartbeat_is_a_problem(settings: Settings, pages: dict[str, str]) -> None:
    health = HeartbeatIsFresh(settings.port("serving"))
    pages["/metrics"] = "workbook_other 1\n"
    assert health.problem() == "the metrics page has no workbook_heartbeat_seconds"

    pages["/metrics"] = f"workbook_heartbeat_seconds {wall_seconds() - 40}\n"
    assert health.problem() == "no heartbeat for 40 s"

    pages["/metrics"] = f"workbook_heartbeat_seconds {wall_seconds()}\n"
    assert health.problem() is None


def test_samples_are_found_by_name_and_labels_and_summed(settings: Settings, pages: dict[str, str]) -> None:
    pages["/metrics"] = (
        "# TYPE workbook_events counter\n"
        'workbook_events_total{topic="watches",outcome="counted"} 5\n'
        'workbook_events_total{topic="videos",outcome="counted"} 2\n'
        'workbook_events_total{topic="videos",outcome="late"} 1\n'
    )

    page = read_metrics(settings.port("serving"))

    assert page.total("workbook_events_total", outcome="counted") == 7
    assert page.total("workbook_events_total", outcome="lost") is None
    assert page.value("workbook_events_total", topic="videos", outcome="late") == 1
    assert page.value("workbook_events_total", outcome="late") is None


def test_a_page_that_is_no_metrics_page_is_an_os_error(settings: Settings, pages: dict[str, str]) -> None:
    pages["/metrics"] = "<html>{ not metrics\n"

    with pytest.raises(OSError, match="is no Prometheus page"):
        read_metrics(settings.port("serving"))
