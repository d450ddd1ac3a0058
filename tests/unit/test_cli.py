from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reference_system import cli, commands
from reference_system.errors import ServiceError
from reference_system.stack.environment import TELEMETRY_SWITCHES

# What `workbook --help` must not pay for.
HEAVY = (
    "bentoml deltalake duckdb feast kafka matplotlib mlflow numpy onnxruntime pandas prefect psutil pyarrow "
    "pydantic sklearn supervisor"
)
VERBS = ("up", "down", "status", "logs", "restart", "doctor", "clean")


@pytest.fixture
def workbook(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, port_offset: int) -> CliRunner:
    monkeypatch.setenv("WORKBOOK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("WORKBOOK_PORT_OFFSET", str(port_offset))
    return CliRunner()


def raising(error: BaseException) -> object:
    def load_settings() -> None:
        raise error

    return load_settings


def test_help_lists_every_verb_and_hides_the_process_entry_point(workbook: CliRunner) -> None:
    text = workbook.invoke(cli.app, ["--help"], env={"COLUMNS": "100"}).output

    listed = [line.split()[1] for line in text.splitlines() if line.startswith("│ ") and line[2] != " "]
    assert set(VERBS) <= set(listed)
    assert "run" not in listed


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from reference_system.cli import app; "
        "result = CliRunner().invoke(app, ['--help']); assert result.exit_code == 0, result.output; "
        f"print(*(name for name in {HEAVY.split()!r} if name in sys.modules))"
    )

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert result.stdout.split() == []


def test_a_module_of_a_verb_imports_nothing_heavy() -> None:
    modules = [path for path in Path(commands.__path__[0]).glob("*/*.py") if "app = typer.Typer(" in path.read_text()]
    verbs = [f"reference_system.commands.{path.parent.name}.{path.stem}" for path in modules]
    program = f"import sys, {', '.join(verbs)}; print(*(name for name in {HEAVY.split()!r} if name in sys.modules))"

    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "reference_system.commands.backtest.fraud" in verbs
    assert result.stdout.split() == []


def test_an_error_is_one_line_with_the_next_command_and_no_traceback(
    workbook: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ServiceError("serving is not healthy after 90 s.", next_command="workbook logs serving")
    monkeypatch.setattr("reference_system.settings.load_settings", raising(error))

    result = workbook.invoke(cli.app, ["status"])

    assert result.exit_code == 1
    assert result.stderr == "serving is not healthy after 90 s; run `workbook logs serving`\n"
    assert result.stdout == ""


def test_debug_shows_the_traceback(workbook: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_system.settings.load_settings", raising(ServiceError("no")))

    result = workbook.invoke(cli.app, ["status"], env={"WORKBOOK_DEBUG": "1"})

    assert isinstance(result.exception, ServiceError)


def test_a_verb_that_imports_a_library_itself_has_its_telemetry_switched_off(
    workbook: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TELEMETRY_SWITCHES:
        monkeypatch.delenv(name, raising=False)

    workbook.invoke(cli.app, ["status"])

    assert os.environ.items() >= TELEMETRY_SWITCHES.items()


def test_an_interrupt_is_one_line_and_exit_code_130(workbook: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_system.settings.load_settings", raising(KeyboardInterrupt()))

    result = workbook.invoke(cli.app, ["doctor"])

    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"


def test_a_wrong_setting_names_its_variable(workbook: CliRunner) -> None:
    result = workbook.invoke(cli.app, ["status"], env={"WORKBOOK_KAFKA_PORT": "many"})

    assert result.exit_code == 1
    assert result.stderr.startswith("WORKBOOK_KAFKA_PORT=many: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("workbook")
def test_an_unknown_process_is_one_line() -> None:
    program = [sys.executable, "-m", "reference_system.cli", "run", "nonsense"]

    result = subprocess.run(program, capture_output=True, text=True, check=False)

    assert result.returncode == 1
    assert result.stderr == "there is no process called 'nonsense'; run `workbook status`\n"


@pytest.mark.parametrize("verb", ["restart", "logs"])
def test_an_unknown_name_lists_what_there_is(workbook: CliRunner, verb: str) -> None:
    result = workbook.invoke(cli.app, [verb, "nonsense"])

    assert result.exit_code == 1
    assert "'nonsense' (there are " in result.stderr


def test_without_a_system_status_says_stopped_and_exits_3(workbook: CliRunner) -> None:
    result = workbook.invoke(cli.app, ["status"])

    assert result.exit_code == 3
    assert result.output.count("stopped") == 7


def test_down_and_clean_without_a_system_have_nothing_to_do(workbook: CliRunner, tmp_path: Path) -> None:
    assert workbook.invoke(cli.app, ["down"]).output == "nothing was running\n"
    assert workbook.invoke(cli.app, ["clean"]).output.startswith("nothing to remove")
    assert list(tmp_path.iterdir()) == []
