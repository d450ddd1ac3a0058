"""Drills on bad input: duplicates, disorder and malformed messages.

In: a stage, a number of events. Out: a report.
Invariant: the expected outcome of each message follows from the order in which the broker stored it.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

from reference_system.features.stream.deduplication import Outcome
from reference_system.ingestion.dead_letters.kafka_reader import DeadLetter, read_shelf
from reference_system.ingestion.kafka_log import TopicLog
from reference_system.proofs.drills.malformed import malformed
from reference_system.proofs.drills.outcomes import expected
from reference_system.proofs.drills.report import DrillReport
from reference_system.proofs.drills.stage import DrillStage
from reference_system.proofs.drills.traffic import LAST_MOMENT, DrillEvent
from reference_system.proofs.kafka_raw_producer import Acknowledged, RawMessage
from reference_system.use_cases import TOPICS

_PARTS = 4
_MOST_COPIES = 3
# Seconds until a consumer is killed, between two parts of the messages.
_LIFE_SECONDS = (0.2, 0.8)
# Two weeks of event time, for any number of events.
_SPAN_SECONDS = 14 * 86_400.0
_LATE_SHARE, _DISORDERED_SHARE = 0.05, 0.5
_WITHIN_HOURS, _BEYOND_HOURS = (0.0, 20.0), (26.0, 96.0)


def duplicates(stage: DrillStage, *, events: int) -> DrillReport:
    """Each event is sent once, twice or three times, the copies anywhere after it, across kills of the consumer."""
    first = stage.traffic.take(events)
    copies = stage.rng.integers(1, _MOST_COPIES + 1, size=events)
    places = [
        (number + float(stage.rng.uniform(0, events)) * (copy > 0), event)
        for number, event in enumerate(first)
        for copy in range(int(copies[number]))
    ]
    messages = [event for _, event in sorted(places, key=lambda pair: pair[0])]
    faults = Counter({"copies": len(messages) - events})
    _send_across_kills(stage, messages, faults)
    return stage.finish("duplicates", faults)


def out_of_order(stage: DrillStage, *, events: int) -> DrillReport:
    """Half of the events arrive up to 20 hours after their neighbours, one in twenty so much later that it is late."""
    rng = stage.rng
    taken = stage.traffic.take(events, seconds_between=_SPAN_SECONDS / events)
    places = []
    for event in taken:
        draw = float(rng.uniform())
        hours = 0.0
        if draw < _LATE_SHARE:
            hours = float(rng.uniform(*_BEYOND_HOURS))
        elif draw < _LATE_SHARE + _DISORDERED_SHARE:
            hours = float(rng.uniform(*_WITHIN_HOURS))
        places.append((event.known + timedelta(hours=hours), event))
    messages = [event for _, event in sorted(places, key=lambda pair: pair[0])]
    moved = sum(one.known > other.known for one, other in pairwise(messages))
    faults = Counter({"events behind a newer one": moved})
    before = expected(stage.book).outcomes[Outcome.LATE]
    _send_across_kills(stage, messages, faults)
    late = faults["late events"] = expected(stage.book).outcomes[Outcome.LATE] - before
    # Without late events the drill proves nothing.
    return stage.finish("out-of-order", faults, [] if late else ["no event came late: the drill needs more events"])


def poison(stage: DrillStage, *, events: int) -> DrillReport:
    """Messages of every malformed kind between valid events; the dead-letter topics must hold their exact bytes."""
    bad = [RawMessage(each.topic, each.key, each.value) for each in malformed(LAST_MOMENT)]
    share = max(events // len(bad), 1)
    consumer = stage.fleet.start(stage.plan())
    sent: dict[Acknowledged, RawMessage] = {}
    for number, message in enumerate(bad):
        stage.progress(0.85 * number / len(bad), f"{number} of {len(bad)} malformed messages")
        stage.send(stage.traffic.take(share))
        stage.send_refused([message])
        sent[stage.book.refused[-1]] = message
    consumer.kill()
    report = stage.finish("poison", Counter({"malformed messages": len(bad)}))
    problems = _wrong_letters(stage, sent)
    return report if not problems else report.with_problems(problems)


def _send_across_kills(stage: DrillStage, messages: list[DrillEvent], faults: Counter[str]) -> None:
    """Send in parts; a consumer reads each for a short time and is killed."""
    size = -(-len(messages) // _PARTS)
    for part in range(_PARTS):
        stage.progress(0.85 * part / _PARTS, f"part {part + 1} of {_PARTS}")
        consumer = stage.fleet.start(stage.plan())
        stage.send(messages[part * size : (part + 1) * size])
        consumer.wait(float(stage.rng.uniform(*_LIFE_SECONDS)))
        consumer.kill()
        faults["consumer killed"] += 1


def _wrong_letters(stage: DrillStage, sent: dict[Acknowledged, RawMessage]) -> list[str]:
    """Messages whose exact bytes are not on the dead-letter topics."""
    letters: dict[Acknowledged, RawMessage] = {}
    with TopicLog(stage.settings.kafka_bootstrap) as log:
        for topic in TOPICS:
            for found in read_shelf(log, topic):
                if isinstance(found, DeadLetter):
                    place = Acknowledged(found.origin.topic, found.origin.partition, found.origin.offset)
                    letters[place] = RawMessage(topic.name, found.key, found.value)
    return [
        f"{place.topic}/{place.partition}/{place.offset} is not on the dead-letter topic as it was sent"
        for place, message in sent.items()
        if letters.get(place) != message
    ]
