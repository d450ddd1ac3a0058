"""A design folder: which files it has, how it is found, read and started.

In: `designs/`. Out: exercises by name; a new folder copied from the template.
Invariant: an exercise is exactly its files; nothing is found by guessing.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from reference_system.errors import ExerciseError
from reference_system.paths import PROJECT_ROOT
from reference_system.workbook.estimate import EstimateFile, load_estimate
from reference_system.workbook.markdown_page import Page, parse_page
from reference_system.workbook.sources import Publication, load_sources

TEMPLATE = "_template"
PAGES = ("README.md", "01-prompt.md", "02-clarify.md", "03-requirements.md", "04-estimate.md", "05-answer.md")
ESTIMATE = "estimate.toml"
SOURCES = "sources.toml"
FACTS = frozenset({"Level", "Minutes"})  # what every README states
FILES = (*PAGES, ESTIMATE, SOURCES)

_NAME = re.compile(r"[a-z][a-z0-9_]{1,47}")
_FACT = re.compile(
    rf"^\s*(?:[-*|]\s*)?\**(?P<key>{'|'.join(sorted(FACTS))})\**\s*[:|]\**\s*(?P<value>[^|\n]+)", re.MULTILINE
)


@dataclass(frozen=True)
class Exercise:
    """One design folder, read on demand."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def title(self) -> str:
        """The first heading of its README, or its name."""
        headings = self.page("README.md").headings
        return headings[0].text if headings else self.name

    @property
    def facts(self) -> dict[str, str]:
        """What its README states after `Level:` and `Minutes:`."""
        return facts_in(self.page("README.md"))

    def page(self, name: str) -> Page:
        """One of its Markdown pages; an absent one is empty."""
        return self._pages[name]

    @cached_property
    def estimate(self) -> EstimateFile:
        """Its `estimate.toml`."""
        return load_estimate(self.folder / ESTIMATE)

    @cached_property
    def sources(self) -> dict[str, Publication]:
        """Its `sources.toml`."""
        return load_sources(self.folder / SOURCES)

    @cached_property
    def _pages(self) -> dict[str, Page]:
        return {name: parse_page(_text(self.folder / name)) for name in PAGES}


def facts_in(readme: Page) -> dict[str, str]:
    """The facts that a README states as `Level: …` in a list or a table."""
    found = {match["key"]: match["value"].strip(" *") for match in _FACT.finditer(readme.text)}
    return {key: value for key, value in found.items() if value}


def designs_folder() -> Path:
    """The designs of this checkout."""
    return PROJECT_ROOT / "designs"


def find_exercises(designs: Path) -> list[Exercise]:
    """Every exercise in alphabetical order, the template left out."""
    if not designs.is_dir():
        raise ExerciseError(f"there is no folder {designs}", next_command="workbook design list")
    folders = sorted(folder for folder in designs.iterdir() if folder.is_dir())
    return [Exercise(folder) for folder in folders if not folder.name.startswith((".", "_"))]


def find_exercise(designs: Path, name: str) -> Exercise:
    """The exercise called `name`; the template may be named, too.

    Raises:
        ExerciseError: if there is none.
    """
    known = {exercise.name: exercise for exercise in find_exercises(designs)}
    if name == TEMPLATE:
        return Exercise(designs / TEMPLATE)
    if name not in known:
        raise ExerciseError(
            f"there is no design `{name}`; there are: {', '.join(known)}", next_command="workbook design list"
        )
    return known[name]


def start_exercise(designs: Path, name: str) -> Exercise:
    """Copy this checkout's template to a new folder of `designs`.

    Raises:
        ExerciseError: if the name is taken or cannot be a folder name on every machine.
    """
    if not _NAME.fullmatch(name):
        raise ExerciseError(
            f"`{name}` cannot name a design: lower-case letters, digits and _, starting with a letter",
            next_command="workbook design new my_design",
        )
    folder = designs / name
    if folder.exists():
        raise ExerciseError(f"{folder} exists already", next_command=f"workbook design check {name}")
    shutil.copytree(designs_folder() / TEMPLATE, folder)
    return Exercise(folder)


def repository_of(folder: Path) -> Path:
    """The nearest folder above that holds `designs/`: where links out of an exercise may lead."""
    return folder.resolve().parent.parent


def _text(path: Path) -> str:
    # What is no UTF-8 is reported by the checks; here it must only not stop them.
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
