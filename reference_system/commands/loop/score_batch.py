"""`workbook score-batch`: the champion's predictions for days of payments, or a page for every active viewer.

In: a use case, and one day or a range of days where they can be chosen. Out: what was done, as lines or as JSON.
Invariant: where the Prefect server answers, each day is a run there; where it does not, the same flow runs without.
A range goes on where it was interrupted: what is done is not done again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reference_system.commands.terminal.on_demand import flow_settings, run_now, runner
from reference_system.commands.terminal.options import UseCaseName

if TYPE_CHECKING:
    from reference_system.settings import Settings

app = typer.Typer()
_DAY = ["%Y-%m-%d"]
_ONE_DAY = timedelta(days=1)


@app.command("score-batch")
def score_batch(  # noqa: PLR0913 - the options of the verb
    use_case: Annotated[UseCaseName, typer.Argument(help="What to predict.")],
    day: Annotated[
        datetime | None,
        typer.Option(formats=_DAY, help="A finished day of payments (default: the newest with features)."),
    ] = None,
    start: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY, help="First day of a backfill of payments.")
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", formats=_DAY, help="The day after its last (default: all with features)."),
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Score again what is done.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, a list for a range.")] = False,
) -> None:
    """Score a day of payments or a range of days, or make a page for every active viewer."""
    if start is None and end is not None:
        raise typer.BadParameter("a range needs its first day, too", param_hint="--from")
    if start is not None and day is not None:
        raise typer.BadParameter("name one day or a range", param_hint="--from")
    settings = flow_settings()
    if start is not None:
        _backfill(settings, use_case.value, start, end, force=force, as_json=as_json)
        return
    from reference_system.flows import prefect_batch

    name = f"{day:%Y-%m-%d}" if day else None
    summary = run_now(settings, prefect_batch.score_batch, use_case=use_case.value, day=name, force=force)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(f"{use_case.value}: {_said(summary)}")
        typer.echo(f"file: {summary['file']}")


def _said(summary: dict[str, Any]) -> str:
    what = f"{summary['rows']} rows for {summary['day']} by version {summary['model_version']}"
    if summary["outcome"] == "already done":
        return f"{what}, already done (--force scores them again)"
    continued = f", {summary['made_rows']} of them now" if summary["outcome"] == "continued" else ""
    unlogged = "" if summary["run_id"] else "; MLflow did not take the run"
    return f"{what}{continued} ({summary['rows_per_second']} rows/s){unlogged}"


def _backfill(  # noqa: PLR0913 - the options of the verb
    settings: Settings, use_case: str, start: datetime, end: datetime | None, *, force: bool, as_json: bool
) -> None:
    """Every day of the range with its own run; what was done is told, also if it is interrupted."""
    from reference_system.commands.terminal.progress import progress_bar
    from reference_system.errors import StateError
    from reference_system.flows import prefect_batch
    from reference_system.flows.batch.case import batch_case
    from reference_system.flows.batch.days import EmptyDay, finished_until, require_finished
    from reference_system.paths import StatePaths

    if not batch_case(use_case).of_past_days:
        raise typer.BadParameter(
            f"a batch of {use_case} is made for now, not for a range of days", param_hint="--from"
        )
    paths = StatePaths(settings.state_dir)
    first = start.replace(tzinfo=UTC)
    until = finished_until(paths) if end is None else end.replace(tzinfo=UTC)
    if first >= until:
        raise StateError(f"there is no day from {first:%Y-%m-%d} to {until:%Y-%m-%d}: --to is the day after the last")
    require_finished(paths, until - _ONE_DAY)
    days = [first + number * _ONE_DAY for number in range((until - first).days)]
    run, done = runner(settings, prefect_batch.score_batch), list[dict[str, Any]]()
    try:
        with progress_bar() as progress:
            for number, day in enumerate(days):
                name = f"{day:%Y-%m-%d}"
                progress(number / len(days), f"{name}, day {number + 1} of {len(days)}")
                try:
                    done.append(run(use_case=use_case, day=name, force=force))
                except EmptyDay:
                    done.append({"day": name, "outcome": "no payments", "rows": 0, "rows_per_second": 0.0})
            progress(1.0, "done")
    finally:
        typer.echo(json.dumps(done)) if as_json else _print(done, len(days))


def _print(done: list[dict[str, Any]], wanted: int) -> None:
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table, reader_console

    table = Table(box=None, pad_edge=False)
    for heading in ("day", "outcome", "rows", "rows/s", "version"):
        table.add_column(heading, justify="right" if heading.startswith("rows") else "left")
    for each in done:
        speed = f"{each['rows_per_second']:,.0f}" if each["rows_per_second"] else ""
        table.add_row(each["day"], each["outcome"], f"{each['rows']:,}", speed, each.get("model_version", ""))
    console = reader_console()
    print_table(table, console=console)
    unlogged = sum(each["outcome"] in ("scored", "continued") and not each["run_id"] for each in done)
    if unlogged:
        console.print(f"MLflow did not take {unlogged} of the runs")
    if len(done) < wanted:
        console.print(f"{len(done)} of {wanted} days; the same command goes on from here")
