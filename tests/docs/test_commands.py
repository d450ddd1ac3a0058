"""docs/commands.md has exactly the commands that exist, and no page names one that does not."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest
from test_designs import exists
from typer.core import TyperGroup
from typer.main import get_command

from reference_system import cli
from reference_system.paths import PROJECT_ROOT
from reference_system.workbook.markdown_page import parse_page

TABLES = (PROJECT_ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
ROOT_PAGES = [PROJECT_ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "designs/README.md")]
READ = [*ROOT_PAGES, *sorted((PROJECT_ROOT / "docs").rglob("*.md"))]

# One command of a line; what stands before `workbook` is the folder of the environment.
COMMAND = re.compile(r"(?:^|[;&|`(]\s*)(?:\S*bin/)?((?:make|workbook) [^;&|`)#\n]*)", re.MULTILINE)


def verbs(group: TyperGroup, path: str = "workbook") -> Iterator[tuple[str, set[str]]]:
    """Every verb of the command line with its options."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from verbs(command, f"{path} {name}")
        else:
            yield f"{path} {name}", {option for param in command.params for option in param.opts if option[0] == "-"}


def root() -> TyperGroup:
    found = get_command(cli.app)
    assert isinstance(found, TyperGroup)
    return found


VERBS = dict(verbs(root()))


def typed(text: str) -> list[str]:
    """The commands that a page tells the reader to type, in code blocks and in sentences."""
    page = parse_page(text)
    blocks = [token.content for token in page.tokens if token.type == "fence" and token.info.strip() in ("", "sh")]
    spans = [f"`{code}`" for passage in page.passages for code in passage.code]
    return [found.strip() for piece in [*blocks, *spans] for found in COMMAND.findall(piece)]


def fault_of(command: str) -> str | None:
    """Why a command cannot be typed as it stands: no such verb, or no such option."""
    words = shlex.split(command)
    plain = [word for word in words if re.fullmatch(r"[a-z][a-z0-9-]*", word)]
    if not exists(" ".join(plain[:3])):
        return f"{command}: no such command"
    verb = next((" ".join(plain[:length]) for length in (3, 2) if " ".join(plain[:length]) in VERBS), None)
    options = {word.partition("=")[0] for word in words if word.startswith("-")} - {"--help", "--debug"}
    if verb is not None and not options <= VERBS[verb]:
        return f"{command}: no such option"
    return None


@pytest.mark.parametrize("path", READ, ids=lambda path: str(path.relative_to(PROJECT_ROOT)))
def test_every_command_that_a_page_names_exists(path):
    commands = typed(path.read_text(encoding="utf-8"))

    assert [fault for fault in map(fault_of, commands) if fault] == []


@pytest.mark.parametrize(
    "command",
    [
        "make nonsense",
        "workbook nonsense",
        "workbook scenario nonsense",
        "workbook status --nonsense",
        "workbook logs -x",
    ],
)
def test_a_command_that_does_not_exist_is_recognised(command):
    assert fault_of(command)


def test_commands_are_found_wherever_they_stand():
    page = "Run `make up`.\n\n```sh\n.venv/bin/workbook status --json | wc\nkill 1; workbook up  # again\n```\n"

    assert typed(page) == ["workbook status --json", "workbook up", "make up"]


def test_the_table_of_targets_is_the_makefiles():
    listed = re.findall(r"^\| `make ([a-z0-9-]+)` \|", TABLES, re.MULTILINE)
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")

    assert sorted(listed) == sorted(re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE))


def test_what_is_said_of_lint_is_what_it_runs():
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
    contributing = (PROJECT_ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    said = "ruff, mypy, import contracts, committed schemas and OpenAPI document"
    recipe = re.search(r"^lint: dev-env ## (.*)\n((?:\t.*\n)+)", makefile, re.MULTILINE)

    assert recipe is not None
    assert recipe[1] == said
    assert re.findall(r"@(?:\.venv/bin/|\$\(WORKBOOK\) )(\S+)", recipe[2]) == [
        *("ruff", "ruff", "mypy", "lint-imports", "schemas", "openapi")
    ]
    assert f"make lint        # {said}\n" in contributing
    assert f"| `make lint` | {said} |" in TABLES


def test_the_tables_of_verbs_are_the_command_lines():
    rows = re.findall(r"^\| `(workbook [^`]+)` \| .* \|(.*)\|$", TABLES, re.MULTILINE)
    listed = {
        re.sub(r"(?: [A-Z_]+)+$", "", verb): set(re.findall(r"(?<=`)--?[a-z-]+", options)) for verb, options in rows
    }

    assert listed == VERBS
    assert len(rows) == len(listed)


def test_the_options_of_the_program_itself_are_documented():
    assert all(option in TABLES for param in root().params for option in param.opts)
