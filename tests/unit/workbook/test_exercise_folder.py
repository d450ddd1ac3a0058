from __future__ import annotations

from pathlib import Path

import pytest

from reference_system.errors import ExerciseError
from reference_system.workbook.exercise import (
    FILES,
    TEMPLATE,
    Exercise,
    designs_folder,
    find_exercise,
    find_exercises,
    start_exercise,
)


@pytest.fixture
def designs(tmp_path: Path) -> Path:
    folder = tmp_path / "designs"
    for name in (TEMPLATE, "beta", "alpha", ".cache"):
        (folder / name).mkdir(parents=True)
        for file in FILES:
            (folder / name / file).write_text("# Title\n", encoding="utf-8")
    (folder / "README.md").write_text("index", encoding="utf-8")
    return folder


def test_exercises_are_listed_by_name_without_template_and_hidden_folders(designs: Path) -> None:
    assert [exercise.name for exercise in find_exercises(designs)] == ["alpha", "beta"]


def test_the_template_is_found_by_its_name(designs: Path) -> None:
    assert find_exercise(designs, TEMPLATE).folder == designs / TEMPLATE


@pytest.mark.parametrize("name", ["gamma", "../alpha", "README.md", ""])
def test_an_unknown_design_is_refused_and_the_known_ones_named(designs: Path, name: str) -> None:
    with pytest.raises(ExerciseError, match="alpha, beta"):
        find_exercise(designs, name)


def test_a_folder_without_designs_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExerciseError, match="there is no folder"):
        find_exercises(tmp_path / "nowhere")


def test_a_new_exercise_is_a_copy_of_the_template(designs: Path) -> None:
    exercise = start_exercise(designs, "my_design")

    assert sorted(path.name for path in exercise.folder.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", ["My design", "../evil", "1st", "a", "_template", "x" * 60, "fraud-detection"])
def test_a_name_that_is_no_folder_name_everywhere_is_refused(designs: Path, name: str) -> None:
    with pytest.raises(ExerciseError, match="cannot name a design"):
        start_exercise(designs, name)


def test_an_existing_exercise_is_never_overwritten(designs: Path) -> None:
    with pytest.raises(ExerciseError, match="exists already"):
        start_exercise(designs, "alpha")


@pytest.mark.parametrize(
    "readme",
    [
        "# T\n\n- **Level:** senior\n- **Minutes:** 45\n",
        "# T\n\n- **Level**: senior\n- **Minutes**: 45\n",
        "# T\n\nLevel: senior\nMinutes: 45\n",
        "# T\n\n| Level | senior |\n|---|---|\n| Minutes | 45 |\n",
    ],
)
def test_level_and_minutes_are_read_from_a_list_or_a_table(designs: Path, readme: str) -> None:
    (designs / "alpha" / "README.md").write_text(readme, encoding="utf-8")

    assert {key: value.strip() for key, value in Exercise(designs / "alpha").facts.items()} == {
        "Level": "senior",
        "Minutes": "45",
    }


def test_the_title_is_the_first_heading(designs: Path) -> None:
    assert Exercise(designs / "alpha").title == "Title"
    (designs / "alpha" / "README.md").unlink()
    assert Exercise(designs / "alpha").title == "alpha"


def test_the_designs_of_this_checkout_hold_the_template() -> None:
    assert (designs_folder() / TEMPLATE).is_dir()
