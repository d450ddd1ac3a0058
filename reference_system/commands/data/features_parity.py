"""`workbook features parity`: what was served beside what history says.

In: a use case and a range of event time. Out: a table of features, or the report as JSON.
Invariant: a difference that nothing explains ends in exit code 1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import UseCaseName

if TYPE_CHECKING:
    from rich.table import Table

    from reference_system.proofs.parity.comparison import FeatureDifference, ParityReport

app = typer.Typer()

MOMENT = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
_COUNTS = ("match", "mismatch", "explained_by_lag", "errors", "missing", "extra")


@app.command("parity")
def parity(
    use_case: Annotated[UseCaseName, typer.Argument(help="Whose prediction log.")],
    start: Annotated[
        datetime | None, typer.Option("--from", formats=MOMENT, help="First moment that was asked about (UTC).")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=MOMENT, help="The moment after the last (UTC).")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many predictions, the newest.")] = 20_000,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Recompute what was served from the lake's events, feature by feature; exit code 1 if anything is unexplained.

    Predictions younger than six hours of event time are left out: their events may still be on their way.
    """
    import msgspec

    from reference_system.paths import StatePaths
    from reference_system.proofs.parity.duckdb_parity import check_parity as compare
    from reference_system.settings import load_settings

    paths = StatePaths(load_settings().state_dir)
    report = compare(paths, use_case.value, start=utc(start), end=utc(end), limit=limit)
    if as_json:
        typer.echo(msgspec.json.encode(report))
    else:
        _print(report)
    if report.all_features.errors:
        raise typer.Exit(1)


def utc(moment: datetime | None) -> datetime | None:
    """What a person types is UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)


def _print(report: ParityReport) -> None:
    from reference_system.commands.terminal.tables import print_table, reader_console

    console = reader_console()
    console.print(
        f"{report.use_case}: {report.predictions:,} predictions ({report.degraded:,} degraded), {report.rows:,} rows,"
        f" {report.first:%Y-%m-%d %H:%M} to {report.last:%Y-%m-%d %H:%M} (event time)"
    )
    print_table(_features(report), console=console)
    if report.differences:
        typer.echo("\nthe largest differences of each feature, unexplained ones first")
        _print_differences(report.differences)
    console.print(
        f"\nwithout an event in the lake: {report.predictions_without_event:,} predictions (trials, load tests);"
        f" events without a prediction: {report.events_without_prediction:,}; too young: {report.settling:,}"
    )
    every = report.all_features
    if every.errors:
        console.print(f"[red]{every.errors:,} values differ and nothing explains it[/red]")
    else:
        console.print(f"no unexplained difference in {every.match + every.mismatch:,} values")


def _features(report: ParityReport) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("feature")
    for name in _COUNTS:
        table.add_column(name.replace("_", " "), justify="right")
    for each in (*report.features, report.all_features):
        counts = {name: getattr(each, name) for name in _COUNTS}
        style = "red" if each.errors else None
        table.add_row(each.feature, *(f"{count:,}" for count in counts.values()), style=style)
    return table


def _print_differences(differences: list[FeatureDifference]) -> None:
    """Every unexplained one, and for each feature the largest that lag explains; ids are whole, to look them up."""
    shown: set[str] = set()
    for each in differences:
        if each.explained_by_lag and each.feature in shown:
            continue
        low, high = _number(each.known_low), _number(each.known_high)
        lag = f"stream lag: the state could give {low if low == high else f'{low} to {high}'}"
        shown.add(each.feature)
        typer.secho(
            f"  {each.feature}: served {_number(each.served)}, history {_number(each.recomputed)};"
            f" prediction {each.prediction_id} of {' '.join(each.entity_keys)} at"
            f" {each.event_timestamp:%Y-%m-%d %H:%M:%S}; {lag if each.explained_by_lag else 'unexplained'}",
            fg=None if each.explained_by_lag else typer.colors.RED,
        )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"
