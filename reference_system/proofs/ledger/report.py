"""The ledger's report: figures for each topic, states, and every difference.

In: the results of `proofs/ledger/ledger.py`. Out: a record for people and programs (`workbook verify --json`).
Invariant: every difference is a problem, and every problem has examples and a next command.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# The most ids or offsets listed for each kind of difference.
EXAMPLES = 20


class TopicLedger(msgspec.Struct, frozen=True, kw_only=True):
    """One topic, as recounted: acknowledged = counted + late + dead_lettered + duplicates."""

    topic: str
    acknowledged: int  # records below the offsets that the state has
    counted: int
    late: int
    dead_lettered: int
    duplicates: int
    missing: int  # events that the recount accepts and the lake lacks: lost
    extra: int  # rows of the lake that the recount does not accept
    double: int  # rows of the lake whose record has another row
    waiting: int  # records from those offsets on: not read yet
    removed: int  # records that retention removed from the broker: not recounted, only their lake rows are
    dropped: int  # rows of old days that the lake dropped: only their number is compared with the totals


class StateLedger(msgspec.Struct, frozen=True, kw_only=True):
    """Entity states compared byte by byte with the recount; the online store compared with the states."""

    compared: int
    different: int
    missing: int
    extra: int
    aged: int  # states with rows of days that the lake dropped: not recounted
    online_compared: int
    online_different: int
    online_in_flight: int  # states that were being pushed during the check, or that the next start pushes


class LedgerProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of difference at one topic or view."""

    kind: str
    where: str
    count: int
    examples: list[str]  # ids or offsets, at most `EXAMPLES`
    next_command: str

    def for_person(self) -> str:
        """One line."""
        more = f", … ({self.count:,} in all)" if self.count > len(self.examples) else ""
        return f"{self.where}: {self.kind}: {', '.join(self.examples)}{more}; next: {self.next_command}"


class LedgerReport(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger. It holds when there is no problem."""

    topics: list[TopicLedger]
    states: StateLedger
    digest: str  # of positions, totals and states: equal digests mean equal ingestion
    problems: list[LedgerProblem]
    seconds: float

    @property
    def lost(self) -> int:
        """Acknowledged events that are missing."""
        return sum(topic.missing for topic in self.topics)

    @property
    def double(self) -> int:
        """Rows that count an event twice, or one that must not be counted."""
        return sum(topic.double + topic.extra for topic in self.topics)


def problem(
    kind: str, where: str, examples: Sequence[str], count: int | None = None, *, then: str
) -> list[LedgerProblem]:
    """The problem, or none if there are no examples."""
    if not examples:
        return []
    total = len(examples) if count is None else count
    return [LedgerProblem(kind=kind, where=where, count=total, examples=list(examples[:EXAMPLES]), next_command=then)]
