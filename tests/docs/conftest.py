"""A finished exercise made from the template, into which a test puts one fault."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from reference_system.workbook.checks import check_exercise
from reference_system.workbook.exercise import TEMPLATE, Exercise, designs_folder
from reference_system.workbook.tables import render_estimate, with_block


@dataclass(frozen=True, slots=True)
class Sample:
    """A design folder that passes its check, in a repository of its own."""

    folder: Path

    @property
    def designs(self) -> str:
        return str(self.folder.parent)

    def rules(self) -> set[str]:
        """The rules that the folder breaks now."""
        return {problem.rule for problem in check_exercise(Exercise(self.folder))}

    def edit(self, file: str, before: str, after: str) -> None:
        path = self.folder / file
        text = path.read_text(encoding="utf-8")
        assert before in text
        path.write_text(text.replace(before, after, 1), encoding="utf-8")

    def append(self, file: str, text: str) -> None:
        path = self.folder / file
        path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")

    def refresh(self) -> None:
        path = self.folder / "04-estimate.md"
        block = render_estimate(Exercise(self.folder).estimate)
        path.write_text(with_block(path.read_text(encoding="utf-8"), block), encoding="utf-8")


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    for name in ("reference_system/use_cases", "runs"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copytree(designs_folder() / TEMPLATE, tmp_path / "designs" / TEMPLATE)
    folder = tmp_path / "designs" / "sample"
    shutil.copytree(designs_folder() / TEMPLATE, folder)
    for page in folder.glob("*.md"):
        page.write_text(page.read_text(encoding="utf-8").replace("> Write:", "Written:"), encoding="utf-8")
    return Sample(folder)
