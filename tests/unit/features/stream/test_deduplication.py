"""Verdicts depend on what lies before in the partition, and on nothing else."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_events import NOW, example
from stream_harness import MICRO, paid

from reference_system.event_time import micros
from reference_system.events import Event
from reference_system.features.stream.deduplication import (
    DEDUPLICATION_HORIZON,
    LATE_AFTER,
    Acceptance,
    Outcome,
    PolledBatch,
    Seen,
    classify,
)
from reference_system.use_cases import topic_named

TRANSACTIONS = topic_named("transactions")


def reference(events: list[Event | None]) -> list[Outcome]:
    """The rules, word for word, over the whole partition."""
    newest = None
    accepted: dict[str, list] = {}
    found = []
    for event in events:
        if event is None:
            found.append(Outcome.DEAD_LETTERED)
            continue
        known = event.event_timestamp
        newest = known if newest is None else newest
        if any(moment >= newest - DEDUPLICATION_HORIZON for moment in accepted.get(event.transaction_id, [])):
            found.append(Outcome.DUPLICATE)
            continue
        late = known < newest - LATE_AFTER
        newest = newest if late else max(newest, known)
        accepted.setdefault(event.transaction_id, []).append(newest)
        found.append(Outcome.LATE if late else Outcome.COUNTED)
    return found


@st.composite
def partitions(draw) -> list[Event | None]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 60))
    days = rng.uniform(0, draw(st.sampled_from([3, 30])), count)
    days = np.sort(days) if draw(st.booleans()) else days
    # Whole days meet the bounds exactly; a microsecond to either side crosses them.
    days = np.round(days) if draw(st.booleans()) else days
    moments = [NOW + timedelta(days=float(day)) + int(rng.choice([-1, 0, 0, 0, 1])) * MICRO for day in days]
    return [None if rng.random() < 0.1 else paid(f"x{rng.integers(count)}", moment) for moment in moments]


@settings(max_examples=150, deadline=None)
@given(events=partitions(), cuts=st.lists(st.integers(0, 60), max_size=5), again=st.integers(0, 20))
def test_verdicts_follow_the_rules_however_batches_are_cut_and_read_again(events, cuts, again):
    expected = reference(events)
    file: Seen = {}
    next_offset, newest = 0, None
    totals: dict[Outcome, int] = {}
    for start, end in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        begin = max(0, start - again)
        if begin == end:
            continue
        batch = PolledBatch(TRANSACTIONS, range(begin, end), events[begin:end])
        ids = {event.transaction_id for event in events[begin:end] if event is not None}
        seen = {identity: list(file[identity]) for identity in ids & file.keys()}
        classified = classify(batch, next_offset=next_offset, newest=newest, seen=seen)
        for topic, identity, *arrival in classified.accepted:
            assert topic == "transactions"
            file.setdefault(identity, []).append(Acceptance(*arrival))
        assert classified.outcomes == expected[begin:end]
        assert [events[begin + place] for place in classified.counted] == [
            event
            for event, verdict in zip(events[start:end], expected[start:end], strict=True)
            if verdict is Outcome.COUNTED
        ], "only what is new"
        assert classified.known == [micros(events[begin + place].event_timestamp) for place in classified.counted]
        next_offset, newest = classified.next_offset, classified.newest
        totals = {key: totals.get(key, 0) + classified.totals.get(key, 0) for key in Outcome}
    assert next_offset == len(events)
    assert totals == {outcome: expected.count(outcome) for outcome in Outcome}


def test_the_offsets_of_a_partition_may_have_gaps():
    batch = PolledBatch(TRANSACTIONS, [3, 7, 8], [paid("x1"), paid("x1"), paid("x2")])
    classified = classify(batch, next_offset=0, newest=None, seen={})
    assert classified.outcomes == [Outcome.COUNTED, Outcome.DUPLICATE, Outcome.COUNTED]
    assert classified.next_offset == 9
    assert [offset for _, _, offset, *_ in classified.accepted] == [3, 8]


def test_a_label_is_judged_by_when_it_was_known():
    old = example("chargebacks", chargeback_id="b2", event_timestamp=NOW - timedelta(days=60))
    batch = PolledBatch(topic_named("chargebacks"), [0, 1], [example("chargebacks"), old])
    classified = classify(batch, next_offset=0, newest=None, seen={})
    assert classified.outcomes == [Outcome.COUNTED, Outcome.COUNTED]
    assert classified.known == [micros(NOW)] * 2


def test_the_first_event_of_a_partition_cannot_be_late():
    classified = classify(PolledBatch(TRANSACTIONS, [0], [paid("x1")]), next_offset=0, newest=None, seen={})
    assert classified.outcomes == [Outcome.COUNTED]
    history = micros(NOW + 2 * LATE_AFTER)
    classified = classify(PolledBatch(TRANSACTIONS, [0], [paid("x1")]), next_offset=0, newest=history, seen={})
    assert classified.outcomes == [Outcome.LATE], "after history, it can"
