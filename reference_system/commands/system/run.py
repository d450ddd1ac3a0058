"""`workbook run NAME`: one process of the system. supervisord and `workbook up` start everything this way.

In: the name of a service (`stack/services.py`) or of a bring-up step. Out: that process, in the foreground.
Invariant: it starts only when what it needs is healthy, and never beside a leftover of its former self.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

    from reference_system.settings import Settings

app = typer.Typer()


@app.command("run", hidden=True)
def run(name: Annotated[str, typer.Argument(help="A service or a bring-up step.")]) -> None:
    """Be one process of the system (supervisord calls this)."""
    from reference_system.settings import load_settings
    from reference_system.stack.bring_up.waiting import wait_for_needs
    from reference_system.stack.environment import child_environment
    from reference_system.stack.processes import stop_leftovers
    from reference_system.stack.services import find_service

    settings = load_settings()
    # Before any library is imported: several read their switches at import.
    environment = child_environment(settings)
    os.environ.clear()
    os.environ.update(environment)
    stop_leftovers(settings, name)
    service = find_service(settings, name)
    if service is not None:
        wait_for_needs(settings, service)
        if service.command:
            os.execve(service.command[0], service.command, environment)  # noqa: S606 - no shell wanted
    entry_point(name)(settings)


def entry_point(name: str) -> Callable[[Settings], None]:
    """The function that is the process called `name`: `main` of its module in `processes/`.

    Raises:
        SetupError: no process has this name.
    """
    module_name = f"reference_system.processes.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise SetupError(f"there is no process called {name!r}", next_command="workbook status") from error
    function: Callable[[Settings], None] = module.main
    return function
