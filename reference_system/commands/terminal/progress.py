"""Beginning a proof and saying how far it is: a bar on a terminal, a line every few seconds elsewhere.

In: a share between 0 and 1, and what happens now. Out: text on stderr, beside the answer and never in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from reference_system.commands.terminal.on_demand import flow_settings
from reference_system.settings import Settings

_QUIET_SECONDS = 10.0


def begin_proof(line: str) -> Settings:
    """Say what will happen, before the libraries are imported, which takes seconds; the settings."""
    typer.echo(line, err=True)
    return flow_settings()


@contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None]]:
    """What a proof calls to say how far it is."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield _line_by_line(console)
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda share, text: bar.update(task, completed=share, description=text)


def _line_by_line(console: Console) -> Callable[[float, str], None]:
    shown = monotonic() - _QUIET_SECONDS

    def show(share: float, text: str) -> None:
        nonlocal shown
        if share >= 1.0 or monotonic() >= shown + _QUIET_SECONDS:
            shown = monotonic()
            console.print(f"{share:4.0%} {text}", markup=False)

    return show
