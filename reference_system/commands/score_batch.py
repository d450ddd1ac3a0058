"""`workbook score-batch`: the champion's predictions for a day of payments, or a page for every active viewer.

In: a use case, and a day where one can be chosen. Out: what the flow did, as a line or as JSON.
Invariant: where the Prefect server answers, the run is visible there; where it does not, the same flow runs without.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer

app = typer.Typer()
_OK = 200


class UseCase(StrEnum):
    """The use cases as arguments."""

    FRAUD = "fraud"
    RECOMMENDATION = "recommendation"


@app.command("score-batch")
def score_batch(
    use_case: Annotated[UseCase, typer.Argument(help="What to predict.")],
    day: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="A finished day of payments (default: the newest with features)."),
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Score a day of payments, or make a page for every active viewer."""
    from reference_system.settings import load_settings
    from reference_system.stack.environment import child_environment
    from reference_system.stack.local_http import ask

    settings = load_settings()
    # Before MLflow and Prefect are imported: they read their switches and deadlines at import.
    os.environ.update(child_environment(settings))
    from reference_system.flows import prefect_batch

    try:
        visible = ask(settings.port("prefect"), "/api/health").status == _OK
    except OSError:
        visible = False
    flow = prefect_batch.score_batch if visible else prefect_batch.score_batch.fn
    summary = flow(use_case.value, f"{day:%Y-%m-%d}" if day else None)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(
            f"{use_case.value}: {summary['rows']} rows for {summary['day']} by version {summary['model_version']}"
            f" ({summary['rows_per_second']} rows/s)"
        )
        typer.echo(f"file: {summary['file']}")
