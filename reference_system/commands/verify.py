"""`workbook verify`: the ledger.

In: nothing. Out: a table for people or JSON for programs; exit code 1 on any difference, with the ids and the next
command.
Invariant: it works beside a running system and with a stopped consumer, and changes neither. The broker must run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

if TYPE_CHECKING:
    from reference_system.proofs.ledger_report import LedgerReport

app = typer.Typer()


@app.command("verify")
def verify(*, as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Prove that nothing is lost or counted twice: recount the topics and compare lake, states and online store."""
    from reference_system.commands.proof_progress import progress_bar
    from reference_system.proofs import ledger
    from reference_system.settings import load_settings

    with progress_bar() as progress:
        report = ledger.verify(load_settings(), progress=progress)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        show_ledger(report)
    if report.problems:
        raise typer.Exit(1)


def show_ledger(report: LedgerReport) -> None:
    """The report for people."""
    from rich.console import Console
    from rich.table import Column, Table

    names = ("acknowledged", "counted", "late", "dead-lettered", "duplicates", "lost", "extra", "double", "waiting")
    table = Table("topic", *(Column(name, justify="right") for name in names))
    for line in report.topics:
        figures = (
            line.acknowledged,
            line.counted,
            line.late,
            line.dead_lettered,
            line.duplicates,
            line.missing,
            line.extra,
            line.double,
            line.waiting,
        )
        table.add_row(line.topic, *(f"{figure:,}" for figure in figures))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for line in report.topics:
        if line.removed:
            console.print(
                f"{line.topic}: retention removed {line.removed:,} records; only their lake rows were compared"
            )
    states = report.states
    console.print(
        f"states: {states.compared:,} compared with the recount, {states.different + states.missing + states.extra:,}"
        f" differ; online store: {states.online_compared:,} compared, {states.online_different:,} differ,"
        f" {states.online_in_flight:,} in flight"
    )
    console.print(f"digest {report.digest}, {report.seconds:.1f} s")
    for each in report.problems:
        console.print(f"✗ {each.for_person()}", style="red", markup=False)
    if not report.problems:
        console.print("✓ acknowledged = counted + late + dead-lettered + duplicates; nothing lost, nothing double")
