"""The whole verdict on one exercise.

In: an exercise. Out: its problems, sorted by file and line.
Invariant: the order is the same on every machine.
"""

from __future__ import annotations

from reference_system.errors import ExerciseError
from reference_system.workbook.exercise import Exercise
from reference_system.workbook.number_checks import number_problems
from reference_system.workbook.problems import BrokenRule
from reference_system.workbook.structure_checks import structure_problems


def check_exercise(exercise: Exercise) -> list[BrokenRule]:
    """Every broken rule.

    Raises:
        ExerciseError: if a page cannot be read at all.
    """
    if not exercise.folder.is_dir():
        raise ExerciseError(f"there is no folder {exercise.folder}", next_command="workbook design list")
    problems = {*structure_problems(exercise), *number_problems(exercise)}
    return sorted(problems, key=lambda problem: (problem.file, problem.line or 0, problem.rule, problem.message))
