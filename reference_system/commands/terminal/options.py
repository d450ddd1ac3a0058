"""Options and arguments that mean the same in several verbs."""

from __future__ import annotations

from typing import Annotated

import typer

from reference_system.commands.terminal.on_demand import UseCaseName

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UseCaseArgument = Annotated[UseCaseName, typer.Argument(help="Whose model.")]
