"""Expected and actual outcomes of a drill's messages, from the drill's own book, independent of the ledger.

In: the messages with their partitions and offsets; the lake and the task files. Out: differences.
Invariant: expected outcomes are computed here from the messages alone, without the code under test.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from reference_system.features.stream.deduplication import Outcome
from reference_system.features.stream.snapshot import TaskSnapshot
from reference_system.lake import delta_lake
from reference_system.proofs.drills.report import name_some
from reference_system.proofs.drills.traffic import DrillEvent
from reference_system.proofs.kafka_raw_producer import Acknowledged
from reference_system.use_cases import TOPICS

# Repeated here from docs and ADRs: the drill must not take them from the code that it checks.
_LATE_AFTER = timedelta(days=1)
_HORIZON = timedelta(days=7)

# (topic, event id)
EventIdentity = tuple[str, str]


@dataclass(slots=True, kw_only=True)
class Book:
    """Everything that the drill has sent."""

    events: list[tuple[Acknowledged, DrillEvent]] = field(default_factory=list)
    refused: list[Acknowledged] = field(default_factory=list)

    def sent(self) -> int:
        """The number of messages."""
        return len(self.events) + len(self.refused)

    def identities(self) -> set[EventIdentity]:
        """The distinct events."""
        return {(event.topic.name, event.event_id) for _, event in self.events}


class DrillExpectation(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes that follow from the order within each partition."""

    late: set[EventIdentity]
    outcomes: dict[Outcome, int]


def expected(book: Book) -> DrillExpectation:
    """Each event's outcome, from the book alone, which must have every record of the topics."""
    newest: dict[tuple[str, int], datetime] = {}
    arrived: dict[EventIdentity, datetime] = {}
    late: set[EventIdentity] = set()
    outcomes = Counter({Outcome.DEAD_LETTERED: len(book.refused)})
    for place, sent in sorted(book.events, key=lambda pair: (pair[0].topic, pair[0].partition, pair[0].offset)):
        identity, channel = (sent.topic.name, sent.event_id), (place.topic, place.partition)
        known = sent.known
        now = newest.setdefault(channel, known)
        if identity in arrived and now - arrived[identity] <= _HORIZON:
            outcomes[Outcome.DUPLICATE] += 1
            continue
        if known < now - _LATE_AFTER:
            outcomes[Outcome.LATE] += 1
            late.add(identity)
        else:
            outcomes[Outcome.COUNTED] += 1
            now = newest[channel] = max(now, known)
        arrived[identity] = now
    return DrillExpectation(late=late, outcomes={outcome: outcomes[outcome] for outcome in Outcome})


class DrillFindings(msgspec.Struct, frozen=True, kw_only=True):
    """The actual outcomes: rows of the lake by event, and totals of the tasks by topic."""

    rows: Counter[EventIdentity]
    late: set[EventIdentity]
    totals: Counter[tuple[str, str]]

    def total(self, outcome: Outcome) -> int:
        """The total over all topics."""
        return sum(count for (_, name), count in self.totals.items() if name == outcome)


def read_found(lake: Path, tasks: Iterable[TaskSnapshot]) -> DrillFindings:
    """Read the lake; the totals come from the tasks."""
    rows: Counter[EventIdentity] = Counter()
    late: set[EventIdentity] = set()
    for topic in TOPICS:
        table = delta_lake.read(lake, topic, columns=[topic.event_id, delta_lake.LATE]).read_all()
        for event_id, is_late in zip(*(column.to_pylist() for column in table.columns), strict=True):
            rows[topic.name, event_id] += 1
            if is_late:
                late.add((topic.name, event_id))
    totals: Counter[tuple[str, str]] = Counter()
    for task in tasks:
        totals.update(task.totals)
    return DrillFindings(rows=rows, late=late, totals=totals)


def read_tally(path: Path) -> DrillFindings:
    """Read the naive consumer's SQLite file: how often it counted each event."""
    with closing(sqlite3.connect(path)) as db:
        rows = Counter({(topic, event_id): n for topic, event_id, n in db.execute("SELECT * FROM counted")})
    totals: Counter[tuple[str, str]] = Counter()
    for (topic, _), times in rows.items():
        totals[topic, Outcome.COUNTED] += times
    return DrillFindings(rows=rows, late=set(), totals=totals)


def lost_and_double(book: Book, found: DrillFindings) -> tuple[set[EventIdentity], set[EventIdentity]]:
    """Events without a row, and events with several."""
    return book.identities() - found.rows.keys(), {identity for identity, n in found.rows.items() if n > 1}


def differences(book: Book, found: DrillFindings, acknowledged: dict[str, int]) -> list[str]:
    """One sentence per difference; `acknowledged` counts the records of each topic."""
    lost, double = lost_and_double(book, found)
    problems = _about(lost, "lost") + _about(double, "counted twice")
    problems += _about(set(found.rows) - book.identities(), "in the lake although nobody sent them")
    for topic, records in acknowledged.items():
        totals = sum(count for (name, _), count in found.totals.items() if name == topic)
        if totals != records:
            problems.append(f"{topic}: {records} records are acknowledged and {totals} have an outcome")
    # If the producer sent messages again, the topics may have records that are not in the book.
    if sum(acknowledged.values()) == book.sent():
        problems += _unexpected(expected(book), found)
    return problems


def _unexpected(wanted: DrillExpectation, found: DrillFindings) -> list[str]:
    problems = _about(wanted.late - found.late, "late and not marked as late")
    problems += _about(found.late - wanted.late, "marked as late and in time")
    for outcome, count in wanted.outcomes.items():
        if found.total(outcome) != count:
            problems.append(f"{found.total(outcome)} records are {outcome}, {count} must be")
    return problems


def _about(identities: set[EventIdentity], what: str) -> list[str]:
    if not identities:
        return []
    return [f"{len(identities)} events are {what}: {name_some({f'{t} {i}' for t, i in identities})}"]
