from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from reference_system.errors import SetupError
from reference_system.settings import PORT_NAMES, Settings
from reference_system.stack.ports import is_port_free, mend_ports, port_holder, require_ports, taken_ports


@pytest.fixture
def taken(settings: Settings) -> Iterator[int]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", settings.port("mlflow")))
        listener.listen()
        yield settings.port("mlflow")


def test_a_port_in_use_is_not_free_and_its_holder_is_named(taken: int) -> None:
    assert not is_port_free(taken)
    holder = port_holder(taken)
    assert holder is not None
    assert holder.pid == os.getpid()
    assert f"(pid {os.getpid()})" in str(holder)


def test_a_port_taken_on_every_address_is_not_free(settings: Settings) -> None:
    with socket.socket() as listener:
        listener.bind(("", settings.port("prefect")))
        listener.listen()
        assert not is_port_free(settings.port("prefect"))


def test_a_port_that_nobody_has_is_free(settings: Settings) -> None:
    assert is_port_free(settings.port("kafka"))
    assert port_holder(settings.port("kafka")) is None
    assert taken_ports(settings) == []


def test_the_error_names_port_service_and_holder_and_mends_it(settings: Settings, taken: int) -> None:
    with pytest.raises(SetupError, match=rf"port {taken} \(mlflow\) is held by .*\(pid {os.getpid()}\)") as caught:
        require_ports(settings, PORT_NAMES)

    command = caught.value.next_command
    assert command is not None
    offset = int(command.removeprefix("WORKBOOK_PORT_OFFSET=").removesuffix(" make up"))
    mended = settings.model_copy(update={"port_offset": offset})
    assert all(is_port_free(mended.port(name)) for name in PORT_NAMES)


def test_the_mending_offset_never_gives_port_5000(settings: Settings) -> None:
    command = mend_ports(settings.model_copy(update={"port_offset": 0, "serving_port": 4900}))

    assert command != "WORKBOOK_PORT_OFFSET=100 make up"
