from __future__ import annotations

import pytest

from reference_system.errors import SetupError
from reference_system.settings import PORT_NAMES, Settings
from reference_system.stack.services import find_service, service_named, services


def test_each_service_comes_after_what_it_needs(settings: Settings) -> None:
    seen: set[str] = set()
    for service in services(settings):
        assert seen.issuperset(service.needs), service.name
        seen.add(service.name)


def test_the_platform_needs_nothing_that_is_not_platform(settings: Settings) -> None:
    platform = {service.name for service in services(settings) if service.platform}

    assert platform == {"kafka", "mlflow", "prefect"}
    assert all(platform.issuperset(service.needs) for service in services(settings) if service.platform)


def test_every_port_of_the_settings_belongs_to_one_service_or_to_the_supervisor(settings: Settings) -> None:
    claimed = [port for service in services(settings) for port in service.ports]

    assert sorted([*claimed, "supervisor"]) == sorted(PORT_NAMES)


def test_every_command_listens_on_loopback_and_on_its_own_port(settings: Settings) -> None:
    for service in services(settings):
        if service.command:
            host, port = (service.command[service.command.index(flag) + 1] for flag in ("--host", "--port"))
            assert (host, port) == ("127.0.0.1", str(settings.port(service.name)))


def test_mlflow_has_one_worker_and_answers_to_its_own_address_only(settings: Settings) -> None:
    command = service_named(settings, "mlflow").command
    port = settings.port("mlflow")

    assert command[command.index("--workers") + 1] == "1"
    assert command[command.index("--allowed-hosts") + 1] == f"127.0.0.1:{port},localhost:{port}"


def test_an_unknown_service_names_those_that_exist(settings: Settings) -> None:
    assert find_service(settings, "bootstrap") is None
    with pytest.raises(SetupError, match="there are kafka, mlflow, prefect, serving, ingestion, world, flows"):
        service_named(settings, "bootstrap")
