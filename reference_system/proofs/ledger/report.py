"""What the ledger says: figures for each topic, states, and every difference.

In: what `proofs/ledger/ledger.py` found. Out: a record for people and programs (`workbook verify --json`).
Invariant: no difference without a problem, and no problem without places to look at and a next command.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

# So many ids or places of each kind of difference are named.
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
    waiting: int  # records behind those offsets: not read yet
    removed: int  # records that retention removed from the broker: not recounted, only their lake rows are
    dropped: int  # rows of old days that the lake dropped: of these only its counts are compared with the totals


class StateLedger(msgspec.Struct, frozen=True, kw_only=True):
    """Entity states against the recount, to the byte; the online store against the states."""

    compared: int
    different: int
    missing: int
    extra: int
    aged: int  # states with rows of days that the lake dropped: not recounted
    online_compared: int
    online_different: int
    online_in_flight: int  # states that were being pushed while the ledger looked, or that the next start pushes


class LedgerProblem(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of difference at one topic or view."""

    kind: str
    where: str
    count: int
    examples: list[str]  # ids or places, at most `EXAMPLES`
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
        """Events that were acknowledged and are nowhere."""
        return sum(topic.missing for topic in self.topics)

    @property
    def double(self) -> int:
        """Rows that count something twice, or something that is not to be counted."""
        return sum(topic.double + topic.extra for topic in self.topics)


def problem(
    kind: str, where: str, examples: Sequence[str], count: int | None = None, *, then: str
) -> list[LedgerProblem]:
    """The problem, or none if there are no examples."""
    if not examples:
        return []
    total = len(examples) if count is None else count
    return [LedgerProblem(kind=kind, where=where, count=total, examples=list(examples[:EXAMPLES]), next_command=then)]
