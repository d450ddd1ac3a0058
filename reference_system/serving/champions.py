"""Which version answers: the champion of the registry, or the last bundle that was verified.

In: the pointer beside the bundles, the registry's alias, a function that verifies and loads. Out: one loaded model.
Invariant: `current` is replaced whole or not at all; a bundle that is refused, and a registry that is away, leave
the old one serving.

Pointer and alias are both looked at, and whichever changed last is followed: training moves both, a person moves the
alias in the registry's own page, and with the registry away the pointer still works.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from reference_system.errors import WorkbookError

# A refused version is looked at again this much later: somebody may have mended it.
REFUSED_SECONDS = 30.0

_Model = TypeVar("_Model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded(Generic[_Model]):
    """A version with its model."""

    version: str
    model: _Model


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionSource(Generic[_Model]):
    """How one use case finds and loads its champion; all may raise `WorkbookError` or `OSError`."""

    pointer: Callable[[], str | None]
    alias: Callable[[], str | None]
    load: Callable[[str], _Model]  # fetches the bundle if it is not there, and verifies it
    confirm: Callable[[str], None]  # moves the pointer: this version was verified


@dataclass(frozen=True, slots=True, kw_only=True)
class ChampionListener:
    """Who is told."""

    loaded: Callable[[str], None]
    refused: Callable[[str, str], None]


class Champion(Generic[_Model]):
    """The model of one use case that answers now."""

    def __init__(
        self, source: ChampionSource[_Model], heard: ChampionListener, *, monotonic: Callable[[], float]
    ) -> None:
        """Nothing is loaded before the first poll."""
        self._source = source
        self._heard = heard
        self._monotonic = monotonic
        self._pointer: str | None = None
        self._alias: str | None = None
        self._wanted: str | None = None
        self._refused: dict[str, float] = {}
        self.current: Loaded[_Model] | None = None

    def poll_pointer(self) -> None:
        """Follow the pointer if it moved; quick, and it needs nobody."""
        self._pointer = self._follow(self._source.pointer, self._pointer)
        self._load()

    def poll_alias(self) -> None:
        """Follow the registry's alias if it moved; a registry that is away changes nothing."""
        self._alias = self._follow(self._source.alias, self._alias)
        self._load()

    def _follow(self, look: Callable[[], str | None], seen: str | None) -> str | None:
        try:
            found = look()
        except (WorkbookError, OSError):
            return seen
        if found is not None and found != seen:
            self._wanted = found
        return found or seen

    def _load(self) -> None:
        version = self._wanted
        if version is None or (self.current and self.current.version == version):
            return
        if self._monotonic() < self._refused.get(version, float("-inf")):
            return
        try:
            model = self._source.load(version)
        except (WorkbookError, OSError) as error:
            self._refused[version] = self._monotonic() + REFUSED_SECONDS
            self._heard.refused(version, str(error))
            return
        self.current = Loaded(version=version, model=model)
        self._heard.loaded(version)
        try:
            if self._source.pointer() != version:
                self._source.confirm(version)
                self._pointer = version
        except (WorkbookError, OSError) as error:
            self._heard.refused(version, f"it serves, but the pointer could not be moved: {error}")
