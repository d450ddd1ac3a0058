"""`workbook etl`: lake → feature tables → online store, now or for a range of the past.

In: a range of days. Out: what the flow did, as lines or as JSON.
Invariant: it runs in this process, with or without a Prefect server; the scheduled runs use the same flow.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer

from reference_system.commands.terminal.on_demand import flow_settings, run_now

app = typer.Typer()
_DAY = ["%Y-%m-%d"]


@app.command("etl")
def etl(
    start: Annotated[
        datetime | None, typer.Option("--from", formats=_DAY, help="First day (default: where the last run ended).")
    ] = None,
    end: Annotated[
        datetime | None, typer.Option("--to", formats=_DAY, help="The day after the last (default: the event clock).")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Compute the feature tables and the online states (a range of days: a backfill)."""
    settings = flow_settings()
    from reference_system.flows import prefect_etl

    summary = run_now(
        settings,
        prefect_etl.etl,
        start=start.date().isoformat() if start else None,
        end=end.date().isoformat() if end else None,
    )
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(f"ETL done: {summary['days']} days up to {summary['end']} (event time)")
