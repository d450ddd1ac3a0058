"""Verdicts: what becomes of each record of a partition.

In: a batch of one partition, in order, and what is known of earlier ones. Out: an outcome for each record.
Invariant: a verdict depends on what lies before the record in its partition and on nothing else, so it is the same
however polls are cut, however many consumers share a topic and however often it is read again.

- duplicate: an event id that arrived before, within `DEDUPLICATION_HORIZON` of its partition's event time.
- late: known more than `LATE_AFTER` before the newest event of its partition; a fact for the lake, but in no window.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate, repeat
from operator import attrgetter, lt

import msgspec

from reference_system.events import Event, Topic

LATE_AFTER = timedelta(days=1)
DEDUPLICATION_HORIZON = timedelta(days=7)
_MICRO = timedelta(microseconds=1)
LATE_MICROS = LATE_AFTER // _MICRO
HORIZON_MICROS = DEDUPLICATION_HORIZON // _MICRO


class Outcome(StrEnum):
    """What became of an event; each has exactly one outcome."""

    COUNTED = "counted"
    DEAD_LETTERED = "dead_lettered"
    LATE = "late"
    DUPLICATE = "duplicate"


class PolledBatch(msgspec.Struct, frozen=True, gc=False):
    """Records of one partition in their order; the lists are parallel. A refused record has no event."""

    topic: Topic
    offsets: Sequence[int]
    events: Sequence[Event | None]


class Acceptance(msgspec.Struct, frozen=True, gc=False):
    """Where an event was accepted: its offset, its partition's event time then, and whether it was late."""

    offset: int
    time: int
    late: bool


# event id → where it was accepted; an id that came again after the horizon has several.
Seen = dict[str, list[Acceptance]]


class Classification(msgspec.Struct):
    """The verdict on a batch, and what the task's transaction will write."""

    outcomes: list[Outcome]
    next_offset: int
    newest: int | None  # the newest moment known in the partition; None before its first event
    totals: Counter[Outcome]
    accepted: list[tuple[str, str, int, int, bool]]  # rows of `seen`: topic, event id, and its `Acceptance`
    counted: list[int]  # places in the batch
    known: list[int]  # for each counted one, when it could be known


def classify(batch: PolledBatch, *, next_offset: int, newest: int | None, seen: Seen) -> Classification:
    """What becomes of each record.

    Args:
        batch: the records.
        next_offset: the first offset that was not classified before; records below it keep what they were.
        newest: the newest moment that the partition knew so far, microseconds.
        seen: for each id of the batch where it was accepted before.
    """
    if not seen and batch.offsets[0] >= next_offset and None not in batch.events:
        classification = _all_counted(batch, newest)
        if classification is not None:
            return classification
    name = batch.topic.name
    outcomes: list[Outcome] = []
    accepted: list[tuple[str, str, int, int, bool]] = []
    counted: list[int] = []
    known_times: list[int] = []
    id_of, known_of = attrgetter(batch.topic.event_id), _known_of(batch.topic)
    for place, (offset, event) in enumerate(zip(batch.offsets, batch.events, strict=True)):
        if event is None:
            outcomes.append(Outcome.DEAD_LETTERED)
            continue
        identity = id_of(event)
        earlier = seen.get(identity)
        if offset < next_offset:
            outcomes.append(_verdict_of_before(offset, earlier))
            continue
        known = round(known_of(event).timestamp() * 1e6)  # `microseconds`, without the call
        if newest is None:
            newest = known
        # By age and not by presence: when old ids are dropped must not matter.
        if earlier is not None and any(arrival.time >= newest - HORIZON_MICROS for arrival in earlier):
            outcomes.append(Outcome.DUPLICATE)
            continue
        late = known < newest - LATE_MICROS
        if late:
            outcomes.append(Outcome.LATE)
        else:
            newest = max(newest, known)
            outcomes.append(Outcome.COUNTED)
            counted.append(place)
            known_times.append(known)
        arrival = Acceptance(offset, newest, late)
        seen[identity] = [arrival] if earlier is None else [*earlier, arrival]
        accepted.append((name, identity, offset, newest, late))
    new = len(outcomes) - bisect_left(batch.offsets, next_offset)
    return Classification(
        outcomes=outcomes,
        next_offset=max(next_offset, batch.offsets[-1] + 1),
        newest=newest,
        totals=Counter(outcomes[len(outcomes) - new :]),
        accepted=accepted,
        counted=counted,
        known=known_times,
    )


def _all_counted(batch: PolledBatch, newest: int | None) -> Classification | None:
    """The verdict on most batches: new events, none of them late or twice; `None` if it is another one."""
    events: Sequence[Event] = batch.events  # type: ignore[assignment] # the caller has looked
    ids = list(map(attrgetter(batch.topic.event_id), events))
    known = [round(moment.timestamp() * 1e6) for moment in map(_known_of(batch.topic), events)]
    times = list(accumulate(known, max, initial=known[0] if newest is None else newest))[1:]
    if len(set(ids)) < len(ids) or any(map(lt, known, (time - LATE_MICROS for time in times))):
        return None
    count = len(ids)
    rows = zip(repeat(batch.topic.name), ids, batch.offsets, times, repeat(False), strict=False)
    return Classification(
        outcomes=[Outcome.COUNTED] * count,
        next_offset=batch.offsets[-1] + 1,
        newest=times[-1],
        totals=Counter({Outcome.COUNTED: count}),
        accepted=list(rows),
        counted=list(range(count)),
        known=known,
    )


def is_known_at_once(topic: Topic) -> bool:
    """Whether we know of the topic's events from the moment at which they happen."""
    return "created_timestamp" not in topic.record.__struct_fields__


def _known_of(topic: Topic) -> Callable[[Event], datetime]:
    """When we could know of an event: at its `created_timestamp` if it has one."""
    return attrgetter("event_timestamp" if is_known_at_once(topic) else "created_timestamp")


def _verdict_of_before(offset: int, earlier: Sequence[Acceptance] | None) -> Outcome:
    for arrival in earlier or ():
        if arrival.offset == offset:
            return Outcome.LATE if arrival.late else Outcome.COUNTED
    return Outcome.DUPLICATE
