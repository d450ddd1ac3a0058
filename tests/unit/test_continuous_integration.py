"""`.ci/run` and `.ci/fresh-clone`: what they call, and that nothing stays. What they call is a stand-in here."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from reference_system.paths import PROJECT_ROOT
from reference_system.settings import Settings

TOOLS = ("bash", "cat", "chmod", "cp", "dirname", "git", "mkdir", "mktemp", "rm")
# Says what it was called with; fails where `fails` names its last target; brings `workbook` as the environment does.
MAKE = """#!/bin/sh
echo "make $*" >> "$CALLS"
mkdir -p .venv/bin && cp "$HOME/workbook" .venv/bin/workbook && cp "$HOME/python" .venv/bin/python
case "$*" in *"$FAILS"*) exit 2 ;; esac
"""
SAYS_ITSELF = '#!/bin/sh\necho "{name} $*" >> "$CALLS"\n'


class Machine:
    """A checkout with the scripts, and a PATH that holds nothing else than what is named."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tools, self.temporary = folder, folder / "tools", folder / "temporary"
        for each in (self.tools, self.temporary, folder / "home", folder / "checkout"):
            each.mkdir()
        for name in TOOLS:
            (self.tools / name).symlink_to(str(shutil.which(name)))
        shutil.copytree(PROJECT_ROOT / ".ci", folder / "checkout" / ".ci")
        self.program("make", MAKE)
        self.program("curl", SAYS_ITSELF.format(name="curl"))
        self.program("workbook", SAYS_ITSELF.format(name="workbook"), where=folder / "home")
        self.program("python", "#!/bin/sh\n", where=folder / "home")
        self.program("python3", "#!/bin/sh\necho '(3, 11)'\n")

    def program(self, name: str, text: str, *, where: Path | None = None) -> Path:
        path = (where or self.tools) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def newer(self, where: Path | None = None) -> Path:
        """An interpreter that says that it is newer, and where it is."""
        return self.program("python3.13", '#!/bin/sh\necho "$0"\n', where=where)

    def run(self, script: str, *arguments: str, fails: str = "nothing") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": str(self.tools),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.temporary),
            "CALLS": str(self.folder / "calls"),
            "FAILS": fails,
        }
        command = ["bash", str(self.folder / "checkout" / ".ci" / script), *arguments]
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def repository(machine: Machine) -> Machine:
    """The same, with something committed to clone."""
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "first"]):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *command], cwd=machine.folder / "checkout", check=True)  # noqa: S607
    return machine


def test_it_runs_what_a_person_runs_and_says_that_there_is_no_newer_interpreter(machine):
    result = machine.run("run")
    assert (result.returncode, result.stderr) == (0, "")
    assert machine.calls == ["make lint test"]
    assert result.stdout == "skipped: the two commands on a newer Python, because none that is supported was found\n"


def test_a_newer_interpreter_runs_the_two_commands_in_short(machine):
    newer = machine.newer()
    assert machine.run("run").returncode == 0
    assert machine.calls == ["make lint test", f"make test-interpreter PYTHON={newer}"]


def test_a_newer_interpreter_is_found_among_the_versions_of_pyenv(machine):
    newer = machine.newer(machine.folder / "home" / ".pyenv" / "versions" / "3.13.1" / "bin")
    machine.run("run")
    assert machine.calls[1:] == [f"make test-interpreter PYTHON={newer}"]


def test_an_interpreter_without_a_global_lock_is_none_of_the_supported(machine):
    machine.newer(machine.folder / "home" / ".pyenv" / "versions" / "3.13.1t" / "bin")
    machine.run("run")
    assert machine.calls == ["make lint test"]


def test_a_name_on_the_path_that_starts_no_interpreter_is_passed_over(machine):
    machine.program("python3.13", "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n")
    result = machine.run("run")
    assert (result.returncode, result.stderr) == (0, "")
    assert machine.calls == ["make lint test"]


def test_what_fails_fails_and_nothing_comes_after_it(machine):
    machine.newer()
    assert machine.run("run", fails="lint test").returncode != 0
    assert machine.calls == ["make lint test"]


def test_a_clone_of_its_own_gets_environment_tests_a_live_system_and_a_score_and_goes(repository):
    result = repository.run("fresh-clone", "python3.13")
    assert result.returncode == 0, result.stderr
    up, score, down = repository.calls
    assert up == "make test-unit up PYTHON=python3.13"
    assert re.match(r"curl .* http://127.0.0.1:\d{5}/v1/fraud/score ", score)
    assert down == "make down PYTHON=python3.13"
    assert list(repository.temporary.iterdir()) == []


def test_no_process_id_gives_a_clone_an_offset_that_the_settings_refuse():
    script = (PROJECT_ROOT / ".ci" / "fresh-clone").read_text()
    found = re.search(r"WORKBOOK_PORT_OFFSET=\$\(\((\d+) \+ \$\$ % (\d+) \* (\d+)\)\)", script)
    assert found is not None
    first, blocks, size = map(int, found.groups())
    for offset in (first, first + (blocks - 1) * size):
        assert Settings(_env_file=None, port_offset=offset).port_offset == offset


@pytest.mark.parametrize("fails", ["up", "down"])
def test_a_system_that_failed_is_taken_down_and_its_clone_goes(repository, fails):
    result = repository.run("fresh-clone", "python3.13", fails=fails)
    assert result.returncode == 2
    assert repository.calls[-1] == "workbook down"
    assert list(repository.temporary.iterdir()) == []


def test_the_workflow_calls_the_same_script_with_each_interpreter():
    (job,) = yaml.safe_load((PROJECT_ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    (step,) = [step for step in job["steps"] if "run" in step]
    assert step == {"run": "bash .ci/run", "env": {"PYTHON": "python${{ matrix.python }}"}}
