"""A job of a bring-up: work with a name and what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Work(Protocol):
    """Something that is started once and then asked until it is done."""

    def start(self) -> None:
        """Begin; returns at once."""
        ...

    def is_finished(self) -> bool:
        """Whether it is complete; raises `WorkbookError` when it has failed."""
        ...

    def cancel(self) -> None:
        """Leave nothing of it running that nobody watches."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work with a name, what it needs, and where its output goes."""

    name: str
    title: str
    work: Work
    needs: tuple[str, ...] = ()
    log: Path | None = None
