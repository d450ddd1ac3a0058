from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from reference_system import settings as settings_module
from reference_system.errors import SetupError
from reference_system.paths import PROJECT_ROOT
from reference_system.settings import PORT_NAMES, Settings, load_settings

DOCUMENT = PROJECT_ROOT / "docs" / "settings.md"
ROW = re.compile(r"^\| `(?P<name>\w+)` \| `(?P<default>[^`]*)` \| (?P<meaning>.*) \|$", re.MULTILINE)


@pytest.fixture(autouse=True)
def no_settings_of_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"WORKBOOK_{name.upper()}", raising=False)


def shown(value: object) -> str:
    return value.date().isoformat() if isinstance(value, datetime) else str(value)


def test_the_document_has_exactly_the_settings_of_the_code() -> None:
    documented = {m["name"]: (m["default"], m["meaning"]) for m in ROW.finditer(DOCUMENT.read_text())}

    in_code = {name: (shown(field.default), field.description) for name, field in Settings.model_fields.items()}
    assert documented == in_code


def test_no_default_port_is_5000_and_all_differ() -> None:
    ports = [Settings(_env_file=None).port(name) for name in PORT_NAMES]

    assert 5000 not in ports
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"port_offset": 2000}, "serving would listen on port 5000"),
        ({"kafka_port": 5050}, "kafka and mlflow would both listen on port 5050"),
        ({"kafka_port": 65_000, "port_offset": 20_000}, "port 85000, which does not exist"),
        ({"history_start": datetime(2025, 1, 6, 3, tzinfo=UTC)}, "must be midnight UTC"),
        ({"speed": 0}, "greater than 0"),
        ({"state_dir": Path("/srv/100%")}, "must not contain %"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings(_env_file=None, **wrong)  # type: ignore[arg-type] - wrong on purpose


def test_a_relative_state_directory_starts_at_the_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)

    assert Settings(_env_file=None, state_dir=Path("here")).state_dir == PROJECT_ROOT / "here"


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("WORKBOOK_SEED=11\nWORKBOOK_VIDEOS=300\n")
    monkeypatch.setenv("WORKBOOK_SEED", "12")

    settings = Settings(_env_file=env_file)

    assert (settings.seed, settings.videos) == (12, 300)


def test_a_misspelt_name_in_the_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("WORKBOOK_SEDE=11\n")
    monkeypatch.setitem(Settings.model_config, "env_file", env_file)

    with pytest.raises(SetupError, match=r"WORKBOOK_SEDE in \.env is no setting"):
        load_settings()


def test_the_error_names_the_variable_and_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", "-5")

    with pytest.raises(SetupError, match=re.escape("WORKBOOK_PORT_OFFSET=-5: input should be greater")):
        load_settings()


def test_importing_the_settings_reads_nothing() -> None:
    assert not any(isinstance(value, Settings) for value in vars(settings_module).values())
