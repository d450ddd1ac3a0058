"""What a bring-up shows: a live board on a terminal, plain lines elsewhere.

In: jobs as they start and end. Out: text; the terminal is left as it was, however the bring-up ends.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from reference_system.stack.log_files import tail

if TYPE_CHECKING:
    from types import TracebackType

    from reference_system.stack.bring_up.job import Job

_TAIL_LINES = 15


class Board:
    """One line a job."""

    def __init__(self, console: Console | None = None) -> None:
        """`console` is for tests; the default writes to stdout."""
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._since: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._live = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing; what was said stays."""
        self._live.stop()

    def note(self, text: str) -> None:
        """Something a person should know: what was healed, what was found."""
        self.console.print(f"• {text}", markup=False)

    def started(self, job: Job) -> None:
        """A job begins."""
        self._since[job.name] = time.monotonic()
        self._tasks[job.name] = self._live.add_task(job.title)

    def progressed(self, name: str, text: str) -> None:
        """A job has something to add to its title."""
        if name in self._tasks:
            self._live.update(self._tasks[name], description=text)

    def finished(self, job: Job) -> None:
        """A job is done."""
        self._live.remove_task(self._tasks.pop(job.name))
        self.console.print(f"✓ {job.title} [dim]{self._seconds(job):.1f} s[/dim]")

    def failed(self, job: Job) -> None:
        """A job has failed: its last words."""
        self._live.remove_task(self._tasks.pop(job.name))
        self.console.print(f"✗ {job.title} [dim]{self._seconds(job):.1f} s[/dim]", style="red")
        if job.log is not None:
            for line in tail(job.log, _TAIL_LINES):
                self.console.print(f"  {job.name} │ {line}", markup=False, style="dim")

    def _seconds(self, job: Job) -> float:
        return time.monotonic() - self._since[job.name]
