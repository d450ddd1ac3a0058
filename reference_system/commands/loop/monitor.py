"""`workbook monitor`: look now, or show what the last look found.

In: nothing. Out: the verdict, where the page is, and the next command.
Invariant: it runs in this process, with or without a Prefect server; the scheduled runs use the same flow, and they
may act. A person's look changes nothing unless asked to.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from reference_system.commands.terminal.on_demand import flow_settings, run_now

app = typer.Typer(help="Drift, performance and freshness.", no_args_is_help=True)


@app.command("run")
def run(
    *,
    act: Annotated[bool, typer.Option("--act", help="Log new alarms, and train if the policy says so.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Look at the system now and write a report."""
    settings = flow_settings()
    from reference_system.flows import prefect_monitor

    summary = run_now(settings, prefect_monitor.monitor, act=act)
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(f"{summary['level']}: {summary['verdict']}")
        for use_case, ruling in summary["rulings"].items():
            typer.echo(f"{use_case}: {ruling}")
        typer.echo(f"report: {summary['report']}")


@app.command("report")
def report(*, open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False) -> None:
    """Say what the latest report found and where it is."""
    from reference_system.errors import StateError
    from reference_system.monitoring.report.record import read_latest
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings

    folder = StatePaths(load_settings().state_dir).reports
    latest = read_latest(folder)
    if latest is None:
        raise StateError("no monitoring report yet", next_command="workbook monitor run")
    page = folder / "latest.html"
    typer.echo(f"{latest.as_of:%Y-%m-%d %H:%M} (event time), {latest.level}: {latest.verdict}")
    for command in dict.fromkeys(finding.next_command for finding in latest.findings):
        typer.echo(f"next: {command}")
    for use_case, ruling in latest.rulings.items():
        typer.echo(f"{use_case}: {ruling}")
    typer.echo(f"report: {page}")
    if open_page:
        typer.launch(page.as_uri())
