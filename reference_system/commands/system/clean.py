"""`workbook clean`: remove the state directory."""

from __future__ import annotations

import typer

app = typer.Typer()


@app.command("clean")
def clean() -> None:
    """Remove everything that the system wrote, and say how much that was. Refused while it runs."""
    from reference_system.errors import StateError
    from reference_system.settings import load_settings
    from reference_system.stack.locks import one_at_a_time
    from reference_system.stack.processes import marked_processes
    from reference_system.stack.state_dir import refuse_foreign, remove_state_dir

    settings = load_settings()
    root = settings.state_dir
    refuse_foreign(root)
    if not root.exists():
        typer.echo(f"nothing to remove: there is no {root}")
        return
    with one_at_a_time(root, "clean"):
        running = sorted({process.service for process in marked_processes(root)})
        if running:
            raise StateError(f"the system is up ({', '.join(running)})", next_command="make down")
        megabytes = remove_state_dir(root)
    typer.echo(f"removed {root}: {megabytes:.1f} MB")
