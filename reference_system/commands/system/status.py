"""`workbook status`: what runs, how it is, what it has done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reference_system.settings import Settings
    from reference_system.stack.disk_use import DiskUse
    from reference_system.stack.status_report import ServiceStatus, StatusReport

app = typer.Typer()

NOT_HEALTHY = 3  # exit code: the command worked, the system does not
_COLOURS = {"healthy": "green", "starting": "yellow", "restarting": "yellow"}


@app.command("status")
def status(*, json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Show services, the simulated clock, the ledger, freshness and the disk. Exit code 3 unless all are healthy."""
    import msgspec

    from reference_system.settings import load_settings
    from reference_system.stack.status_report import ORPHANED, status_report

    settings = load_settings()
    report = status_report(settings)
    if json:
        typer.echo(msgspec.json.encode(report))
    else:
        print_services(settings, report.services)
        _print_figures(report)
        _print_disk(report.disk)
        if any(service.state == ORPHANED for service in report.services):
            typer.echo("\nthe supervisor is gone, its processes are not; run `make up`", err=True)
    if not report.all_healthy:
        raise typer.Exit(NOT_HEALTHY)


def print_services(settings: Settings, states: Sequence[ServiceStatus]) -> None:
    """The table of services."""
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table
    from reference_system.stack.services import services

    look_at = {service.name: service.look_at for service in services(settings)}
    table = Table(box=None, pad_edge=False)
    for heading in ("service", "state", "address", "pid", "MB"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("pid", "MB") else "left")
    table.add_column("what to look at")
    for state in states:
        colour = _COLOURS.get(state.state, "red")
        table.add_row(
            state.name,
            f"[{colour}]{state.state}[/{colour}]",
            state.url,
            "" if state.pid is None else str(state.pid),
            "" if state.rss_mb is None else f"{state.rss_mb:.0f}",
            look_at[state.name],
        )
    print_table(table)


def _print_disk(disk: DiskUse) -> None:
    typer.echo(f"{'disk (MB)':20} {disk.total_mb:,.0f} in {disk.files:,} files: {disk.largest}")
    if disk.month_mb is not None:
        typer.echo(f"{'':20} {disk.month_mb:+,.0f} in a simulated month")
    typer.echo(f"{'':20} {disk.free_mb:,.0f} free")
    if disk.problem is not None:
        typer.secho(
            f"\n{disk.problem}; largest: {disk.largest}; `make clean` removes it all", fg=typer.colors.RED, err=True
        )


def _print_figures(report: StatusReport) -> None:
    events, freshness = report.events, report.freshness_ms
    figures = {
        "event time": report.clock,
        "acknowledged": events.acknowledged,
        "counted": events.counted,
        "dead-lettered": events.dead_lettered,
        "late": events.late,
        "freshness p50 (ms)": freshness.p50,
        "freshness p99 (ms)": freshness.p99,
    }
    typer.echo()
    for name, figure in figures.items():
        if figure is not None:
            typer.echo(f"{name:20} {figure}")
