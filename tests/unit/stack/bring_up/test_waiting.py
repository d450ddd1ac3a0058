from __future__ import annotations

import socket

import pytest

from reference_system.errors import ServiceError
from reference_system.settings import Settings
from reference_system.stack.bring_up.waiting import wait_for_needs
from reference_system.stack.services import service_named


def test_a_service_whose_needs_are_healthy_starts_at_once(settings: Settings) -> None:
    said: list[str] = []
    with socket.socket() as broker:
        broker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        broker.bind(("127.0.0.1", settings.port("kafka")))
        broker.listen()
        wait_for_needs(settings, service_named(settings, "world"), say=said.append)

    assert said == []


def test_after_the_deadline_it_says_what_it_waited_for(settings: Settings) -> None:
    said: list[str] = []
    impatient = settings.model_copy(update={"ready_seconds": 0.1})

    with pytest.raises(ServiceError, match=r"world waited 0\.1 s for kafka at 127\.0\.0\.1:\d+: port \d+ does not"):
        wait_for_needs(impatient, service_named(impatient, "world"), say=said.append)

    assert said[0].startswith("world waits for kafka at 127.0.0.1:")
