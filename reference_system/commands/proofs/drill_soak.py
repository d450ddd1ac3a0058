"""`workbook drill soak`: does a system that is left alone stay as it is?

In: how many minutes. Out: a table of every figure with its bound, a run file and a plot; exit code 1 if anything is
not flat, or the ledger does not hold.
Invariant: the system that is watched is one of its own, as large as the live one; the live one is not touched.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from reference_system.proofs.soak.soak import SoakReport
    from reference_system.settings import Settings

app = typer.Typer()

_PACKAGES = ("deltalake", "prefect", "mlflow", "kafka-python")
# Wide enough for the longest name of a figure; the whole table fits in 80 columns.
_UNITS = {
    "rise": "an hour",
    "level": "median",
    "high": "of 90 %",
    "fewest": "at least",
    "new": "more",
    "rate": "cores",
    "month": "a month",
}


@app.command("soak")
def soak(
    *,
    minutes: Annotated[float, typer.Option(min=1, max=100_000, help="How long; the first third is warm-up.")] = 120,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """A system of its own left alone: files, disk, memory, processor time and lag must be flat; then the ledger."""
    import msgspec

    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof(
        f"soak: a system of its own, watched for {minutes:g} minutes; it takes as much memory as the live one, which"
        " is not touched"
    )
    from reference_system.proofs.soak.soak import run_soak as run

    with progress_bar() as progress:
        report = run(settings, minutes=minutes, progress=progress)
    kept = _keep(settings, report)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        _print(report)
        typer.echo(f"kept in {kept}, drawn beside it (.png)")
    if not report.passed:
        raise typer.Exit(1)


def _keep(settings: Settings, report: SoakReport) -> Path:
    """The run file with machine and commit, and the plot."""
    import msgspec

    from reference_system.clock import wall_now
    from reference_system.paths import StatePaths
    from reference_system.proofs.soak.matplotlib_soak import draw_soak
    from reference_system.stack.run_facts import run_facts

    facts, moment = run_facts(*_PACKAGES), wall_now().strftime("%Y%m%dT%H%M%SZ")
    folder = StatePaths(settings.state_dir).bench_runs
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / f"soak-{moment}.json"
    kept = {"command": " ".join(["workbook", *sys.argv[1:]]), "moment": moment, "facts": facts, "result": report}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    commit = facts.commit.id[:7] if facts.commit else "no commit"
    title = f"{report.minutes:g} minutes at speed {settings.speed:g}, {commit}, {facts.machine.cpu}"
    path.with_suffix(".png").write_bytes(draw_soak(report.samples, title=title))
    return path


def _print(report: SoakReport) -> None:
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table

    table = Table(box=None, pad_edge=False)
    for heading in ("figure", "median", "found", "bound", "", "flat"):
        left = heading in ("figure", "", "flat")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for one in report.judged:
        found = "not seen" if one.found is None else _short(one.found)
        median = "" if one.median is None else _short(one.median)
        mark = "[green]yes[/green]" if one.holds else "[red]NO[/red]"
        table.add_row(one.figure, median, found, _short(one.bound), _UNITS[one.measure], mark)
    print_table(table)
    for problem in report.problems:
        typer.secho(f"✗ {problem}", fg=typer.colors.RED)
    ledger = "the ledger holds" if not report.problems else "the ledger does NOT hold"
    verdict = "passed" if report.passed else "FAILED"
    typer.echo(f"soak of {report.minutes:g} minutes {verdict}; {ledger} (verify took {report.verify_seconds:.0f} s)")


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"  # noqa: PLR2004 - three digits are enough
