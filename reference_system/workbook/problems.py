"""What a check finds.

In: a rule that was broken. Out: one line a person can act on, and the same as data.
Invariant: every problem names the file; the line where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class BrokenRule:
    """One broken rule."""

    file: str
    line: int | None = None
    rule: str
    message: str

    def for_person(self, design: str) -> str:
        """`design/file:line: message [rule]`, which terminals and editors can open."""
        place = f"{design}/{self.file}" + (f":{self.line}" if self.line else "")
        return f"{place}: {self.message} [{self.rule}]"
