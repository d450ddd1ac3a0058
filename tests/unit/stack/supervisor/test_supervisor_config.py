from __future__ import annotations

import stat
from configparser import RawConfigParser
from pathlib import Path

from reference_system.settings import Settings
from reference_system.stack.services import services
from reference_system.stack.supervisor.config import config_path, read_password, render_config, write_config

WORD = "not-secret-here"
ODD = Path("/srv/my state")


def parsed(text: str) -> RawConfigParser:
    parser = RawConfigParser()
    parser.read_string(text)
    return parser


def test_there_is_one_program_for_each_service_and_none_else(settings: Settings) -> None:
    config = parsed(render_config(settings, password=WORD))

    programs = [name.removeprefix("program:") for name in config.sections() if name.startswith("program:")]
    assert programs == [service.name for service in services(settings)]


def test_every_program_is_restarted_stopped_as_a_group_and_marked(settings: Settings) -> None:
    config = parsed(render_config(settings, password=WORD))

    for service in services(settings):
        program = config[f"program:{service.name}"]
        assert program["command"].endswith(f"-m reference_system.cli run {service.name}")
        assert program["environment"] == f'WORKBOOK_SERVICE="{service.name}"'
        assert program["autorestart"] == program["stopasgroup"] == program["killasgroup"] == "true"
        assert program["stopwaitsecs"] == str(service.stop_seconds)
        assert int(program["stdout_logfile_backups"]) >= 1


def test_control_is_on_loopback_behind_the_password(settings: Settings) -> None:
    config = parsed(render_config(settings, password=WORD))

    assert config["inet_http_server"]["port"] == f"127.0.0.1:{settings.port('supervisor')}"
    assert config["inet_http_server"]["password"] == WORD
    assert "unix_http_server" not in config


def test_only_the_owner_can_read_the_password_and_each_start_has_its_own(settings: Settings) -> None:
    assert read_password(settings) is None

    path = write_config(settings)
    first = read_password(settings)
    write_config(settings)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first is not None
    assert len(first) >= 32
    assert read_password(settings) not in (None, first)
    assert [entry.name for entry in config_path(settings).parent.iterdir()] == ["supervisord.conf"]


def test_every_path_is_absolute_and_may_hold_spaces(settings: Settings) -> None:
    config = parsed(render_config(settings.model_copy(update={"state_dir": ODD}), password=WORD))

    assert config["supervisord"]["pidfile"] == "/srv/my state/supervisor/supervisord.pid"
    assert config["program:kafka"]["stdout_logfile"] == "/srv/my state/logs/kafka.log"
