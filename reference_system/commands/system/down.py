"""`workbook down`: stop everything, and make sure of it."""

from __future__ import annotations

import time

import typer

app = typer.Typer()


@app.command("down")
def down() -> None:
    """Stop every service; leave no process, no port, no lock."""
    from reference_system.errors import ServiceError
    from reference_system.settings import load_settings
    from reference_system.stack.locks import one_at_a_time
    from reference_system.stack.processes import marked_processes
    from reference_system.stack.state_dir import refuse_foreign
    from reference_system.stack.supervisor.daemon import end_everything

    began = time.monotonic()
    settings = load_settings()
    refuse_foreign(settings.state_dir)
    with one_at_a_time(settings.state_dir, "down"):
        ended = end_everything(settings)
        left = marked_processes(settings.state_dir)
    if left:
        raise ServiceError(
            f"{len(left)} processes do not end: {', '.join(map(str, left))}",
            next_command=f"kill -9 {' '.join(str(process.pid) for process in left)}",
        )
    if ended.leftovers:
        typer.echo(f"stopped as well, left without its parent: {', '.join(map(str, ended.leftovers))}")
    if ended.services:
        typer.echo(f"stopped {', '.join(ended.services)} in {time.monotonic() - began:.0f} s; the data stays")
    if not ended.services and not ended.leftovers:
        typer.echo("nothing was running")
