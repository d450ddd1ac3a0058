"""Verdicts: what becomes of each record of a poll.

In: arrivals in the order of each partition, and what is known of earlier ones. Out: an outcome for each that is new,
and whether it is the first of its event.
Invariant: a verdict depends on what lies before the arrival in its partition and on nothing else, so it is the same
however polls are cut, however many consumers share a topic and however often it is read again.

- duplicate: an event id that arrived before, within `DEDUPLICATION_HORIZON` of its partition's event time.
- late: known more than `LATE_AFTER` before the newest event of its partition; a fact for the lake, but in no window.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

import msgspec

from reference_system.events import Event, Topic
from reference_system.features.stream_folds import known_at

LATE_AFTER = timedelta(days=1)
DEDUPLICATION_HORIZON = timedelta(days=7)
_MICRO = timedelta(microseconds=1)
LATE_MICROS = LATE_AFTER // _MICRO
HORIZON_MICROS = DEDUPLICATION_HORIZON // _MICRO
# The partition number that the lake gives to generated history.
HISTORY = -1

Place = tuple[str, int]
# (topic, event id) → where it arrived as a new event, (partition, offset), and its partition's event time then.
Seen = dict[tuple[str, str], dict[tuple[int, int], int]]


class Outcome(StrEnum):
    """What became of an event; each has exactly one outcome."""

    COUNTED = "counted"
    DEAD_LETTERED = "dead_lettered"
    LATE = "late"
    DUPLICATE = "duplicate"


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """One record of a partition: its event, or `None` if its bytes went to the dead-letter topic."""

    topic: Topic
    partition: int
    offset: int
    event: Event | None


@dataclass(slots=True, kw_only=True)
class Batch:
    """A poll under judgement: what is known, and what the transaction will write."""

    next_offsets: dict[Place, int]
    newest: dict[Place, int]
    seen: Seen
    ids: list[tuple[str, str, int, int, int]] = field(default_factory=list)
    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    counted: list[tuple[str, Event, int]] = field(default_factory=list)

    def judge(self, arrival: Arrival) -> bool:
        """Whether the arrival is the first of its event: a fact that belongs in the lake."""
        topic, place = arrival.topic.name, (arrival.topic.name, arrival.partition)
        here = (arrival.partition, arrival.offset)
        identity = (topic, "" if arrival.event is None else arrival.topic.id_of(arrival.event))
        if arrival.offset < self.next_offsets.get(place, 0):
            return here in self.seen.get(identity, ())
        self.next_offsets[place] = arrival.offset + 1
        if arrival.event is None:
            self.totals[topic, Outcome.DEAD_LETTERED] += 1
            return False
        known = known_at(arrival.event)
        newest = self.newest.get(place, self.newest.get((topic, HISTORY), known))
        earlier = self.seen.setdefault(identity, {})
        # By age and not by presence: when old ids are dropped must not matter.
        if any(arrived >= newest - HORIZON_MICROS for arrived in earlier.values()):
            self.totals[topic, Outcome.DUPLICATE] += 1
            return False
        if known < newest - LATE_MICROS:
            self.totals[topic, Outcome.LATE] += 1
        else:
            newest = max(newest, known)
            self.totals[topic, Outcome.COUNTED] += 1
            self.counted.append((topic, arrival.event, known))
        self.newest[place] = newest
        earlier[here] = newest
        self.ids.append((*identity, *here, newest))
        return True
