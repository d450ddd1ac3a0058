"""`workbook design`: list, check, estimate and start design exercises.

In: `designs/` (or the folder after `--designs`). Out: tables for people, JSON for programs.
Invariant: only `estimate --write` and `new` write, and only inside the folder of designs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from reference_system.commands.terminal.options import AsJson
from reference_system.errors import ExerciseError, WorkbookError
from reference_system.workbook.checks import check_exercise
from reference_system.workbook.estimate import agrees, compute
from reference_system.workbook.exercise import (
    TEMPLATE,
    Exercise,
    designs_folder,
    find_exercise,
    find_exercises,
    start_exercise,
)
from reference_system.workbook.tables import changed_results, format_number, render_estimate, with_block

app = typer.Typer(
    help="Design exercises: list, check, recompute, start your own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Designs = Annotated[
    Path, typer.Option("--designs", default_factory=designs_folder, show_default="designs/", help="Folder of designs.")
]
DesignName = Annotated[str, typer.Argument(help="Folder name of a design.")]


@app.command("list")
def list_designs(designs: Designs) -> None:
    """Show every exercise with its level, its minutes and whether it passes the check."""
    from rich.table import Column, Table

    from reference_system.commands.terminal.tables import print_table

    table = Table(Column("design", no_wrap=True), "title", "level", "minutes", Column("check", no_wrap=True))
    for exercise in find_exercises(designs):
        count = len(check_exercise(exercise))
        verdict = "passes" if count == 0 else f"{count} problem{'s' if count > 1 else ''}"
        facts = exercise.facts
        table.add_row(exercise.name, exercise.title, facts.get("Level"), facts.get("Minutes"), verdict)
    print_table(table)


@app.command()
def check(
    designs: Designs,
    name: Annotated[str | None, typer.Argument(help="One design; all and the template if left out.")] = None,
    as_json: AsJson = False,  # noqa: FBT002 - a typer flag
) -> None:
    """Check files, headings, links, arithmetic and the binding of every number."""
    exercises = [find_exercise(designs, name)] if name else _all_with_template(designs)
    found = {exercise.name: check_exercise(exercise) for exercise in exercises}
    if as_json:
        designs_json = {
            design: {
                "passes": not problems,
                "problems": [
                    {"file": each.file, "line": each.line, "rule": each.rule, "message": each.message}
                    for each in problems
                ],
            }
            for design, problems in found.items()
        }
        typer.echo(json.dumps({"designs": designs_json}, ensure_ascii=False, indent=2))
    else:
        for design, problems in found.items():
            for each in problems:
                typer.echo(each.for_person(design))
            typer.echo(f"{design}: {'passes' if not problems else f'{len(problems)} to mend'}")
    if any(found.values()):
        raise typer.Exit(1)


@app.command()
def estimate(
    designs: Designs,
    name: DesignName,
    what_if: Annotated[
        list[str] | None, typer.Option("--set", metavar="INPUT=VALUE", help="Recompute with another value.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Refresh the table in 04-estimate.md.")] = False,  # noqa: FBT002 - a typer flag
    as_json: AsJson = False,  # noqa: FBT002 - a typer flag
) -> None:
    """Recompute the estimate: what if an input were different?"""
    exercise = find_exercise(designs, name)
    overrides = dict(_override(each) for each in what_if or [])
    if write and overrides:
        raise ExerciseError("--write writes what estimate.toml states; change the file instead of --set")
    if write:
        _write_block(exercise)
    if as_json:
        typer.echo(
            json.dumps({"design": exercise.name, "set": overrides, "values": compute(exercise.estimate, overrides)})
        )
    else:
        _print_estimate(exercise, overrides)


@app.command()
def new(designs: Designs, name: DesignName) -> None:
    """Start your own exercise from the template."""
    exercise = start_exercise(designs, name)
    typer.echo(f"{exercise.folder} is ready; `workbook design check {name}` says what is left to write")


def main() -> None:
    """Run this part of the CLI alone."""
    try:
        app()
    except WorkbookError as error:
        typer.echo(f"error: {error.for_person()}", err=True)
        sys.exit(1)


def _all_with_template(designs: Path) -> list[Exercise]:
    template = [find_exercise(designs, TEMPLATE)] if (designs / TEMPLATE).is_dir() else []
    return [*find_exercises(designs), *template]


def _override(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError as error:
        raise ExerciseError(
            f"`--set {text}` is not INPUT=VALUE with a number, for example `--set peak_factor=5`"
        ) from error


def _write_block(exercise: Exercise) -> None:
    values = compute(exercise.estimate)
    for name, result in exercise.estimate.results.items():
        computed = values[name]
        if result.value is not None and computed is not None and not agrees(result.value, computed):
            stated = (
                f"states {format_number(result.value)}, the expression gives {format_number(computed, significant=4)}"
            )
            raise ExerciseError(f"results.{name} {stated}: mend estimate.toml first")
    path = exercise.folder / "04-estimate.md"
    text = path.read_text(encoding="utf-8")
    refreshed = with_block(text, render_estimate(exercise.estimate))
    path.write_text(refreshed, encoding="utf-8")
    typer.echo(f"{path.name}: {'already fresh' if refreshed == text else 'refreshed'}", err=True)


def _print_estimate(exercise: Exercise, overrides: dict[str, float]) -> None:
    from rich.table import Column, Table

    from reference_system.commands.terminal.tables import print_table

    table = Table(Column("result", no_wrap=True), Column("as stated", justify="right"))
    for title in ("now", "ratio") if overrides else ():
        table.add_column(title, justify="right")
    table.add_column("unit")
    if not overrides:
        table.add_column("what it means")
    for name, (before, after) in changed_results(exercise.estimate, overrides).items():
        result = exercise.estimate.results[name]
        if overrides:
            table.add_row(name, _shown(before), _shown(after), _ratio(before, after), result.unit)
        else:
            table.add_row(name, _shown(before), result.unit, result.reads)
    print_table(table)


def _ratio(before: float | None, after: float | None) -> str:
    return f"× {format_number(after / before, significant=3)}" if before and after is not None else "–"


def _shown(value: float | None) -> str:
    return "not measured yet" if value is None else format_number(value, significant=3)


if __name__ == "__main__":
    main()
