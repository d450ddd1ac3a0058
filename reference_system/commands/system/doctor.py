"""`workbook doctor`: is this machine ready, and if not, which command mends it."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer()


@app.command("doctor")
def doctor(*, json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Check the machine. Exit code 1 if a check fails; each failure prints the command that mends it."""
    import msgspec

    from reference_system.settings import load_settings
    from reference_system.stack.machine import machine_checks

    checks = machine_checks(load_settings())
    if json:
        typer.echo(msgspec.json.encode(checks))
    else:
        for check in checks:
            mark = typer.style("✓", fg=typer.colors.GREEN) if check.ok else typer.style("✗", fg=typer.colors.RED)
            typer.echo(f"{mark} {check.name:16} {check.detail}")
            if not check.ok:
                typer.echo(f"  {'':16} mend: {check.mend}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)
