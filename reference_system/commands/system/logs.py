"""`workbook logs NAME`: what a service, a bring-up step or the supervisor said."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command("logs")
def logs(
    name: Annotated[str, typer.Argument(help="A service, `history`, `bootstrap` or `supervisor`.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
) -> None:
    """Print the end of a log."""
    from reference_system.settings import load_settings
    from reference_system.stack import log_files

    path = log_files.log_path(load_settings(), name)
    for line in log_files.tail(path, lines):
        typer.echo(line)
    if follow:
        for text in log_files.follow(path):
            typer.echo(text, nl=False)
