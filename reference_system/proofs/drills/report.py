"""The result of a drill.

In: the drill's own book and the ledger. Out: one record for people and for programs.
Invariant: `problems` is empty if and only if nothing was lost, nothing counted twice and the ledger agrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# The most ids listed; the count includes all.
NAMED = 20


class DrillCounts(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of the records; `acknowledged` = counted + late + duplicate + dead_lettered."""

    sent: int  # messages that the drill sent
    acknowledged: int  # records in the topics, including those that a producer sent again
    counted: int
    late: int
    duplicate: int
    dead_lettered: int
    lost: int  # events that were sent and are in no lake table
    double: int  # events with more than one row in the lake


class DrillReport(msgspec.Struct, frozen=True, kw_only=True):
    """One drill; `faults` counts the injected faults by kind."""

    drill: str
    seed: int
    faults: dict[str, int]
    counts: DrillCounts
    digest: str
    problems: list[str]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether the guarantees held."""
        return not self.problems

    def with_problems(self, problems: Sequence[str]) -> DrillReport:
        """The same report with additional problems."""
        return msgspec.structs.replace(self, problems=[*self.problems, *problems])


def name_some(ids: set[str]) -> str:
    """The first ids of a set, and how many more there are."""
    named = sorted(ids)
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return ", ".join(named[:NAMED]) + more
