"""`workbook run history`: the bring-up step that generates the history, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from reference_system.settings import Settings


def main(settings: Settings) -> None:
    """Generate the history, or say that it is there; one line a block."""
    from reference_system.world.history import write_history

    write_history(settings, typer.echo)
