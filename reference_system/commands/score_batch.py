"""`workbook score-batch`: the champion's predictions for a day of payments, or a page for every active viewer.

In: a use case, and a day where one can be chosen. Out: what the flow did, as a line or as JSON.
Invariant: where the Prefect server answers, the run is visible there; where it does not, the same flow runs without.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer

from reference_system.commands.on_demand import UseCaseName, prepare, run_now

app = typer.Typer()


@app.command("score-batch")
def score_batch(
    use_case: Annotated[UseCaseName, typer.Argument(help="What to predict.")],
    day: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="A finished day of payments (default: the newest with features)."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score a day of payments, or make a page for every active viewer."""
    settings = prepare()
    from reference_system.flows import prefect_batch

    summary = run_now(
        settings, prefect_batch.score_batch, use_case=use_case.value, day=f"{day:%Y-%m-%d}" if day else None
    )
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(
            f"{use_case.value}: {summary['rows']} rows for {summary['day']} by version {summary['model_version']}"
            f" ({summary['rows_per_second']} rows/s)"
        )
        typer.echo(f"file: {summary['file']}")
