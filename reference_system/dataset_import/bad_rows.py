"""Bad rows: counted by reason, the first few of each kept to be shown.

In: rows and what is wrong with them. Out: counts and examples.
Invariant: a row counts once, for the first thing that was found; memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

_EXAMPLES = 3
_VALUE_CHARACTERS = 40


class BadRows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that one reason kept out; an example names the row (the first after the header is 1)."""

    reason: str
    rows: int
    examples: tuple[str, ...]


class BadRowLog:
    """What has been found so far."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._counts: dict[str, int] = {}
        self._examples: dict[str, list[str]] = {}

    @property
    def total(self) -> int:
        """How many rows."""
        return sum(self._counts.values())

    def add(self, reason: str, rows: Iterable[int], describe: Callable[[int], str]) -> None:
        """Count rows; `describe` is asked for the few that become examples."""
        kept = self._examples.setdefault(reason, [])
        count = 0
        for row in rows:
            count += 1
            if len(kept) < _EXAMPLES:
                kept.append(describe(row))
        self._counts[reason] = self._counts.get(reason, 0) + count

    def found(self) -> tuple[BadRows, ...]:
        """Every reason with its rows, the most frequent first."""
        order = sorted((-count, reason) for reason, count in self._counts.items() if count)
        return tuple(
            BadRows(reason=reason, rows=-count, examples=tuple(self._examples[reason])) for count, reason in order
        )


def shown(value: object) -> str:
    """A value as a message shows it: quoted, and not longer than a line can bear."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _VALUE_CHARACTERS else f"{text[:_VALUE_CHARACTERS]}…"


def sentence(bad: tuple[BadRows, ...]) -> str:
    """All reasons in one line."""
    return "; ".join(f"{one.rows:,} × {one.reason} ({', '.join(one.examples)})" for one in bad)
