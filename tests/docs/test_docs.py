"""What the Markdown files say about the repository is so: links, paths, ports, diagrams, code, indexes."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from reference_system.paths import PROJECT_ROOT
from reference_system.settings import LOOPBACK, PORT_NAMES, Settings
from reference_system.stack.services import services
from reference_system.workbook.markdown_page import parse_page

# Hidden folders hold what was installed or made here.
VISIBLE = [path for path in sorted(PROJECT_ROOT.iterdir()) if not path.name.startswith(".")]
FILES = [found for path in VISIBLE for found in ([path] if path.suffix == ".md" else sorted(path.rglob("*.md")))]
PAGES = {str(path.relative_to(PROJECT_ROOT)): parse_page(path.read_text(encoding="utf-8")) for path in FILES}

DIAGRAMS = {"flowchart", "sequenceDiagram", "stateDiagram-v2", "classDiagram", "erDiagram", "gantt", "timeline"}
REPOSITORY_PATH = re.compile(r"(?:reference_system|tests|docs|designs|infra|load_tests)/[\w./-]*\w")
# A folder of somebody's machine, and a mark where something is still to be written.
ELSEWHERE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users)/|[A-Z]:\\Users")
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX|TBD)\b|«[A-Z]+»")


def every_page(*, under: str = ""):
    return pytest.mark.parametrize("name", [name for name in PAGES if name.startswith(under)])


def fences(name: str, info: str) -> list[str]:
    return [t.content for t in PAGES[name].tokens if t.type == "fence" and t.info.strip() == info]


def fault_of(name: str, target: str) -> str | None:
    """Why a relative link leads nowhere."""
    path_text, _, fragment = unquote(target).partition("#")
    path = (PROJECT_ROOT / name).parent.joinpath(path_text).resolve() if path_text else PROJECT_ROOT / name
    if not path.is_relative_to(PROJECT_ROOT):
        return f"{target} leads out of the repository"
    if not path.exists():
        return f"{target} does not exist"
    if fragment and path.suffix == ".md" and fragment not in PAGES[str(path.relative_to(PROJECT_ROOT))].anchors:
        return f"{target} names no heading"
    return None


@every_page()
def test_every_relative_link_leads_to_a_file_and_a_heading(name):
    targets = [link.target for link in PAGES[name].links if not link.target.startswith(("https://", "http://"))]

    assert [fault for fault in (fault_of(name, target) for target in targets) if fault] == []


@pytest.mark.parametrize("target", ["nowhere.md", "README.md#no-such-heading", "../outside.md"])
def test_a_link_that_leads_nowhere_is_recognised(target):
    assert fault_of("README.md", target)


@every_page()
def test_every_path_of_the_repository_that_is_named_exists(name):
    named = {code for passage in PAGES[name].passages for code in passage.code if REPOSITORY_PATH.fullmatch(code)}

    assert {path for path in named if not (PROJECT_ROOT / path).exists()} == set()


@every_page()
def test_nothing_is_of_one_machine_or_left_to_write(name):
    lines = enumerate(PAGES[name].text.splitlines(), start=1)

    assert [(n, line) for n, line in lines if ELSEWHERE.search(line) or UNFINISHED.search(line)] == []


@pytest.mark.parametrize("line", ["cd /home/someone/workbook", "TODO: measure it", "It takes «BUDGET»."])
def test_a_mark_of_one_machine_or_of_work_left_is_recognised(line):
    assert ELSEWHERE.search(line) or UNFINISHED.search(line)


@every_page()
def test_every_local_address_has_the_port_of_a_setting(name):
    defaults = {Settings(_env_file=None).port(port) for port in PORT_NAMES}
    named = {int(port) for port in re.findall(rf"{re.escape(LOOPBACK)}:(\d+)", PAGES[name].text)}

    assert named <= defaults


def test_the_readme_has_the_address_of_every_service():
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \|", PAGES["README.md"].text, re.MULTILINE)

    assert dict(rows) == {service.name: service.url for service in services(Settings(_env_file=None))}


@every_page()
def test_every_diagram_has_a_known_type_and_a_body(name):
    for diagram in fences(name, "mermaid"):
        kind, *body = [line for line in diagram.splitlines() if line.strip()]
        assert kind.split()[0] in DIAGRAMS
        assert body


@every_page(under="docs/")
def test_no_code_block_is_empty(name):
    assert [t.map for t in PAGES[name].tokens if t.type == "fence" and not t.content.strip()] == []


@every_page(under="docs/")
def test_python_on_a_page_compiles_and_imports_what_exists(name):
    for block in fences(name, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("reference_system"):
                assert {alias.name for alias in node.names} <= names_in(str(node.module))


def names_in(module: str) -> set[str]:
    """The names that a module of ours has, without running it."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    tree = ast.parse(Path(str(spec.origin)).read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {target.id for target in ast.walk(node) if isinstance(target, ast.Name)}
    return found


def test_a_name_that_a_module_has_not_is_recognised():
    assert "evaluate" in names_in("reference_system.windows")
    assert "guess" not in names_in("reference_system.windows")


@pytest.mark.parametrize("index", ["docs/README.md", "docs/adr/README.md"])
def test_an_index_lists_everything_in_its_folder(index):
    folder = (PROJECT_ROOT / index).parent
    listed = {link.target.strip("/").partition("#")[0] for link in PAGES[index].links}
    there = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {"README.md"}

    assert there <= listed | {target.partition("/")[0] for target in listed}


def test_the_index_of_decisions_has_their_numbers_and_titles():
    rows = re.findall(r"^\| \[(\d{4})\]\((\S+)\) \| (.+) \|$", PAGES["docs/adr/README.md"].text, re.MULTILINE)
    headings = {file: PAGES[f"docs/adr/{file}"].text.splitlines()[0] for _, file, _ in rows}

    assert {file: f"# {number} {title}" for number, file, title in rows} == headings
    assert [number for number, _, _ in rows] == [f"{place:04}" for place in range(1, len(rows) + 1)]
