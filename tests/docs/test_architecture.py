"""ARCHITECTURE.md says what the code says."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import reference_system

ROOT = Path(__file__).parents[2]
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


def test_the_layers_are_those_that_the_import_contract_holds():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (held,) = [each["layers"] for each in contracts if each.get("containers") == ["reference_system"]]
    table = TEXT.split("## The layers")[1].split("##")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [re.split(r" \| ", layer) for layer in held]
