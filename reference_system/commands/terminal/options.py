"""Options and arguments that mean the same in several verbs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.use_case import USE_CASES

if TYPE_CHECKING:

    class UseCaseName(StrEnum):
        """The use cases, as the command line offers them."""

else:
    UseCaseName = StrEnum("UseCaseName", {name.upper(): name for name in USE_CASES})

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
UseCaseArgument = Annotated[UseCaseName, typer.Argument(help="Whose model.")]
