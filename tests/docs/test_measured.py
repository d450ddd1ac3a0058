"""Every measured number of a design stands in its run file: same command, same figure, with commit and machine."""

from __future__ import annotations

import json

import pytest

from reference_system.paths import PROJECT_ROOT
from reference_system.workbook.exercise import designs_folder, find_exercises

RUNS = PROJECT_ROOT / "docs" / "evidence"
MEASURED = {
    f"{exercise.name}.{name}": given
    for exercise in find_exercises(designs_folder())
    for name, given in exercise.estimate.inputs.items()
    if given.kind == "measured" and given.value is not None
}


def run_of(file: str) -> dict:
    return json.loads((PROJECT_ROOT / file).read_text(encoding="utf-8"))


def figure(run: dict, name: str) -> float:
    """The figure that the run file gives for an input; a place is the keys that lead to it."""
    found = run["output"]
    for key in run["figures"][name]:
        found = found[key]
    return float(found)


def states(value: float, unit: str, found: float) -> bool:
    """Whether a value of at most four digits is the figure, rounded."""
    scale = 100 if unit == "%" else 1
    return value == pytest.approx(found * scale, rel=0.01)


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_number_is_the_one_in_its_run_file(name):
    given = MEASURED[name]
    run = run_of(given.run)

    assert given.command == run["command"]
    assert states(given.value, given.unit, figure(run, name))


@pytest.mark.parametrize("path", sorted(RUNS.iterdir()), ids=lambda path: path.name)
def test_a_run_file_says_where_it_was_made_and_every_figure_is_used(path):
    run = run_of(path)

    assert run["commit"]["id"]
    assert run["machine"]["cpu"]
    assert run["figures"].keys() <= MEASURED.keys()
    assert run["figures"]


@pytest.mark.parametrize(
    ("value", "unit", "found"), [(0.51, "average precision", 0.504), (0, "events", 1), (14, "%", 0.135)]
)
def test_another_number_is_recognised(value, unit, found):
    assert not states(value, unit, found)
