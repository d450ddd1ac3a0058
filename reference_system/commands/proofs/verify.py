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
    from reference_system.proofs.ledger.report import LedgerReport

app = typer.Typer()


@app.command("verify")
def verify(*, as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False) -> None:
    """Prove that nothing is lost or counted twice: recount the topics and compare lake, states and online store."""
    from reference_system.commands.terminal.progress import progress_bar
    from reference_system.proofs.ledger import ledger
    from reference_system.settings import load_settings

    with progress_bar() as progress:
        report = ledger.recount_and_compare(load_settings(), progress=progress)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        show_ledger(report)
    if report.problems:
        raise typer.Exit(1)


def show_ledger(report: LedgerReport) -> None:
    """The report for people."""
    from rich.table import Column, Table

    from reference_system.commands.terminal.tables import print_table

    names = ("acknowledged", "counted", "late", "dead-lettered", "duplicates", "lost", "double", "waiting")
    columns = [Column(name, justify="right", no_wrap=True) for name in names]
    table = Table(Column("topic", no_wrap=True), *columns, box=None, pad_edge=False)
    for line in report.topics:
        double = line.double + line.extra
        sets = (line.counted, line.late, line.dead_lettered, line.duplicates)
        figures = (line.acknowledged, *sets, line.missing, double, line.waiting)
        table.add_row(line.topic, *(f"{figure:,}" for figure in figures))
    print_table(table)
    for line in report.topics:
        if line.removed:
            typer.echo(f"{line.topic}: retention removed {line.removed:,} records; only their lake rows were compared")
        if line.dropped:
            typer.echo(
                f"{line.topic}: the lake dropped {line.dropped:,} rows of old days; only their number was compared"
            )
    states = report.states
    typer.echo(
        f"states: {states.compared:,} compared with the recount, {states.different + states.missing + states.extra:,}"
        f" differ; online store: {states.online_compared:,} compared, {states.online_different:,} differ,"
        f" {states.online_in_flight:,} in flight" + (f"; {states.aged:,} of old days" if states.aged else "")
    )
    typer.echo(f"digest {report.digest}, {report.seconds:.1f} s")
    for each in report.problems:
        typer.secho(f"✗ {each.for_person()}", fg=typer.colors.RED)
    if not report.problems:
        typer.echo("✓ acknowledged = counted + late + dead-lettered + duplicates; nothing lost, nothing double")
