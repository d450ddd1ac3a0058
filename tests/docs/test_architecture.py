"""ARCHITECTURE.md says what the code says."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import reference_system

ROOT = Path(__file__).parents[2]
# Files in one folder, from which on a reader searches instead of looking.
MOST_FILES = 20
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def linked_files():
    return re.findall(r"\]\(((?:tests|reference_system|docs)/[^)#]+)\)", TEXT)


def test_every_invariant_names_a_test_that_exists():
    assert linked_files()
    missing = [name for name in linked_files() if not (ROOT / name).is_file()]
    assert missing == []


def test_every_folder_and_file_that_it_names_exists():
    named = re.findall(
        r"`((?:world|ingestion|features|training|registry|serving|feedback|monitoring|flows)/[\w./]*)`", TEXT
    )
    assert [name for name in named if not (ROOT / "reference_system" / name).exists()] == []


def test_the_picture_is_the_packages_own():
    picture = TEXT.split("```")[1].strip("\n")
    assert reference_system.__doc__ is not None
    assert picture in reference_system.__doc__


def layers():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (held,) = [each["layers"] for each in contracts if each.get("containers") == ["reference_system"]]
    return [re.split(r" \| ", layer) for layer in held]


def section(name):
    return TEXT.split(f"## {name}\n")[1].split("\n## ")[0]


def test_the_layers_are_those_that_the_import_contract_holds():
    rows = [row.split("|")[1] for row in section("The layers").splitlines() if row.startswith("| `")]
    assert [re.findall(r"`(\w+)`", row) for row in rows] == layers()


def test_the_picture_of_the_packages_is_the_import_contract():
    boxes = re.split(r"├─+▼─+┤", section("The layers").split("```")[1])
    assert [re.findall(r"\w+", box) for box in boxes] == layers()


def test_the_rooms_are_the_folders_and_what_they_say_of_themselves():
    rooms = dict(re.findall(r"^\| `([\w/]+)/` \| (.+) \|$", section("The rooms"), re.MULTILINE))
    said = {}
    for path in (ROOT / "reference_system").rglob("__init__.py"):
        first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        said[str(path.parent.relative_to(ROOT / "reference_system"))] = first.replace("\n", " ")
    del said["."]
    assert rooms == said


def test_no_folder_is_a_corridor():
    counts = {folder: len(list(folder.glob("*.py"))) for folder in (ROOT / "reference_system").rglob("*/")}
    assert {str(folder): count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_where_things_go_names_what_exists():
    named = re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?|\w+\.py)`", section("Where does X go"))
    assert named
    missing = [
        name for name in named if not any((ROOT / folder / name).exists() for folder in (".", "reference_system"))
    ]
    assert missing == []
