"""`workbook restart NAME`: one service, stopped and started again."""

from __future__ import annotations

import time
from typing import Annotated

import typer

app = typer.Typer()


@app.command("restart")
def restart(name: Annotated[str, typer.Argument(help="A service.")]) -> None:
    """Restart a service and wait until it is healthy."""
    from reference_system.settings import load_settings
    from reference_system.stack.services import service_named
    from reference_system.stack.supervisor.client import Supervisor
    from reference_system.stack.supervisor.daemon import restart_service

    began = time.monotonic()
    settings = load_settings()
    service = service_named(settings, name)
    restart_service(settings, Supervisor(settings), service)
    typer.echo(f"{name} is healthy at {service.url} after {time.monotonic() - began:.0f} s")
