"""`workbook features replay`: a period of a dataset through Kafka, the consumer and the read path.

In: a dataset and a range of days. Out: one Parquet file with the vectors as they were served, and how they compare
with history.
Invariant: it runs in a system of its own; neither the dataset nor the live system is touched.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.data.features_parity import MOMENT, utc
from reference_system.commands.terminal.options import UseCaseName

if TYPE_CHECKING:
    from reference_system.proofs.replay.report import ReplayReport

app = typer.Typer()


@app.command("replay")
def replay(  # noqa: PLR0913 - the options of the verb
    use_case: Annotated[UseCaseName, typer.Argument(help="Whose inputs.")],
    start: Annotated[datetime, typer.Option("--from", formats=MOMENT, help="First moment (UTC).")],
    end: Annotated[datetime, typer.Option("--to", formats=MOMENT, help="The moment after the last (UTC).")],
    out: Annotated[
        Path, typer.Option("--out", help=".parquet, .csv or .tsv, also .csv.gz; one that exists is replaced.")
    ],
    dataset: Annotated[str, typer.Option("--dataset", help="An imported dataset (`workbook data list`).")] = "live",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Ask about every event as a request would, then let it happen; exit code 1 if a vector differs without a tie."""
    import msgspec

    from reference_system.commands.terminal.progress import begin_proof, progress_bar
    from reference_system.commands.terminal.table_files import require_table, with_own_types, write_table
    from reference_system.errors import StateError
    from reference_system.lake.datasets import LIVE, read_dataset_manifest

    first, last = utc(start), utc(end)
    if first is None or last is None or first >= last:
        raise StateError(f"the period from {start} to {end} is empty")
    require_table(out)
    settings = begin_proof(
        f"replays {dataset} from {first:%Y-%m-%d} to {last:%Y-%m-%d} in a system of its own, with a broker; a week of"
        " ten thousand payments a day takes about a minute"
    )
    manifest = None if dataset == LIVE else read_dataset_manifest(settings, dataset)
    from reference_system.proofs.replay.replay import ReplayRequest
    from reference_system.proofs.replay.replay import replay_period as play

    request = ReplayRequest(use_case=use_case.value, dataset=dataset, start=first, end=last, file=str(out))
    with progress_bar() as progress:
        table, report = play(settings, request, progress)
    write_table(out, with_own_types(table, manifest))
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(1)


def _print(report: ReplayReport) -> None:
    typer.echo(
        f"{report.file}: {report.rows:,} rows in {report.seconds} s ({report.rows_per_second:,.0f} requests/s,"
        f" {report.events:,} events in {report.groups:,} groups, {report.history_rows:,} rows of history before)"
    )
    typer.echo(
        f"equal to history within {report.tolerance:g}: {report.equal:,} of {report.rows:,}, {report.share_equal:.4%};"
        f" ties of one entity at one moment: {report.explained_by_ties:,}; unexplained: {report.unexplained:,}"
    )
    for each in report.features:
        if each.different:
            typer.echo(f"  {each.feature} differs in {each.different:,} rows")
    for difference in report.differences:
        typer.secho(
            f"  {difference.id} ({difference.entity}) {difference.feature}: served {difference.served:.9g},"
            f" history {'nothing' if difference.history is None else f'{difference.history:.9g}'}",
            fg=typer.colors.RED,
        )
