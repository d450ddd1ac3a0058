"""`workbook scenario`: change the world by hand, and let it be again.

In: a scenario's name. Out: `scenarios.json`, which the world reads at every tick; a table for people, JSON for
programs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from reference_system.settings import Settings
    from reference_system.world.scenarios import Run, Scenario

    Change = Callable[[Sequence[Run], Scenario, datetime], tuple[Run, ...]]

app = typer.Typer(help="Changes of the world that you start and stop.", no_args_is_help=True)

ScenarioName = Annotated[str, typer.Argument(help="A scenario's name, see `workbook scenario list`.")]


@app.command("list")
def list_scenarios(*, as_json: AsJson = False) -> None:
    """Show every scenario, what it does, what to look at, and since when it is on."""
    from rich.table import Column, Table

    from reference_system.commands.terminal.tables import print_table
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings
    from reference_system.world.scenarios import DESCRIPTIONS, SCENARIOS, active_run, read_runs

    runs = read_runs(StatePaths(load_settings().state_dir).world / SCENARIOS)
    rows = [(name, *texts, active_run(runs, name)) for name, texts in DESCRIPTIONS.items()]
    if as_json:
        scenarios = [
            {"name": name, "does": does, "look_at": look_at, "since": run.started.isoformat() if run else None}
            for name, does, look_at, run in rows
        ]
        typer.echo(json.dumps({"scenarios": scenarios}))
        return
    table = Table(
        Column("scenario", no_wrap=True),
        "what happens",
        Column("look at", overflow="fold"),
        Column("on since", no_wrap=True),
    )
    for name, does, look_at, run in rows:
        table.add_row(name, does, look_at, f"{run.started:%Y-%m-%d %H:%M}" if run else "off")
    print_table(table)


@app.command()
def start(name: ScenarioName, *, as_json: AsJson = False) -> None:
    """Start a scenario; it takes effect within five minutes of event time."""
    from reference_system.world import scenarios

    _change(name, scenarios.started, as_json=as_json)


@app.command()
def stop(name: ScenarioName, *, as_json: AsJson = False) -> None:
    """Stop a scenario that is on."""
    from reference_system.world import scenarios

    _change(name, scenarios.stopped, as_json=as_json)


def _change(name: str, change: Change, *, as_json: bool) -> None:
    """Apply a change at the current event time and say what is so now."""
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings
    from reference_system.world.scenarios import SCENARIOS, active_run, named, read_runs, write_runs

    settings = load_settings()
    scenario = named(name)
    now = _event_time(settings)
    path = StatePaths(settings.state_dir).world / SCENARIOS
    runs = change(read_runs(path), scenario, now)
    write_runs(path, runs)
    on = active_run(runs, scenario) is not None
    if as_json:
        typer.echo(json.dumps({"name": scenario, "state": "on" if on else "off", "event_time": now.isoformat()}))
    else:
        typer.echo(f"{scenario} is {'on' if on else 'off'} from {now:%Y-%m-%d %H:%M} UTC (event time)")


def _event_time(settings: Settings) -> datetime:
    """The event time of the world that runs.

    Raises:
        ServiceError: none runs; a change of a world that stands still would seem to do nothing.
    """
    from reference_system.clock import GRACE_SECONDS, SimulatedClock, read_heartbeat, wall_seconds
    from reference_system.errors import ServiceError, StateError
    from reference_system.paths import StatePaths

    path = StatePaths(settings.state_dir).clock
    try:
        beat = read_heartbeat(path)
    except StateError:
        beat = None
    if beat is None or not beat.speed or wall_seconds() - beat.wall_seconds > GRACE_SECONDS:
        raise ServiceError("no world runs, so no scenario can be started or stopped", next_command="make up")
    return SimulatedClock(path).now()
