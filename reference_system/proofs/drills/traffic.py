"""The traffic of drills: valid events of every topic, and duplicate, late or malformed ones as a drill needs them.

In: a seed. Out: an endless sequence of events in the order in which they became known.
Invariant: the same seed gives the same events. All belong to a few entities, so that every poll changes states that
the previous poll has changed, and every task owns some.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np

from reference_system.events import PREDICTIONS, SHADOWS, Event, PredictionLogged, Topic, encode
from reference_system.proofs.kafka_raw_producer import RawMessage
from reference_system.use_cases.fraud.events import (
    CHARGEBACKS,
    REVERSALS,
    TRANSACTIONS,
    ChargebackReported,
    ChargebackReversed,
    Transaction,
)
from reference_system.use_cases.fraud.labels import LABEL_DELAY
from reference_system.use_cases.recommendation.events import (
    CATEGORIES,
    EXPOSURES,
    IMPRESSIONS,
    RATINGS,
    VIDEOS,
    WATCHES,
    Category,
    ExposureLogged,
    PageShown,
    VideoPublished,
    VideoRated,
    VideoWatched,
)

START = datetime(2025, 3, 3, tzinfo=UTC)
# The current time of the consumers; no event of a drill is later.
LAST_MOMENT = START + timedelta(days=3_000)
# On average: a long drill covers windows of 1, 7 and 30 days and the deduplication horizon.
_SECONDS_BETWEEN = 60.0
# One event in this many is a duplicate, late, or malformed.
_DUPLICATE_EVERY, _LATE_EVERY, _REFUSED_EVERY = 25, 30, 35
# One chargeback in this many names a payment that has one; a reversal is of one of the last this many chargebacks.
_SECOND_EVERY, _REVERSIBLE = 4, 200
_CUSTOMERS, _TERMINALS, _VIEWERS, _VIDEOS = 50, 40, 50, 30
_SHARES = {
    TRANSACTIONS: 0.4,
    CHARGEBACKS: 0.1,
    REVERSALS: 0.03,
    VIDEOS: 0.05,
    IMPRESSIONS: 0.1,
    WATCHES: 0.2,
    RATINGS: 0.05,
    SHADOWS: 0.02,
    EXPOSURES: 0.02,
}
_TOPICS = (*_SHARES, PREDICTIONS)
_WEIGHTS = (*_SHARES.values(), 1.0 - sum(_SHARES.values()))


class DrillEvent(msgspec.Struct, frozen=True, gc=False):
    """An event and its topic."""

    topic: Topic
    event: Event

    @property
    def event_id(self) -> str:
        """Its id within its topic."""
        return self.topic.id_of(self.event)

    @property
    def known(self) -> datetime:
        """When it could be known; for a label, later than its event."""
        known: datetime = getattr(self.event, "created_timestamp", self.event.event_timestamp)
        return known

    def message(self) -> RawMessage:
        """The message to send."""
        return RawMessage(self.topic.name, self.topic.key_of(self.event).encode(), encode(self.event))


class Traffic:
    """The source of a drill's events."""

    def __init__(self, seed: int) -> None:
        """Begin at `START`."""
        self._rng = np.random.default_rng(seed)
        self._number = 0
        self._reported: list[ChargebackReported] = []
        self.now = START

    def take(self, count: int, *, seconds_between: float = _SECONDS_BETWEEN) -> list[DrillEvent]:
        """The next events, on average `seconds_between` of event time apart."""
        return [self._next(seconds_between) for _ in range(count)]

    def with_trouble(self, count: int) -> list[DrillEvent]:
        """The next events, with some duplicates and some late events."""
        events: list[DrillEvent] = []
        first = self._number + 1
        for number, event in enumerate(self.take(count), start=first):
            events.append(event)
            if self._rng.integers(_DUPLICATE_EVERY) == 0:
                events.append(events[int(self._rng.integers(len(events)))])
            if self._rng.integers(_LATE_EVERY) == 0:
                late = _transaction(self._rng, f"{number:07d}-late", self.now - timedelta(days=2))
                events.append(DrillEvent(TRANSACTIONS, late))
        return events

    def refused(self, count: int) -> list[RawMessage]:
        """Malformed messages, about as many as among `count` events."""
        times = int(self._rng.binomial(count, 1 / _REFUSED_EVERY))
        return [
            RawMessage(topic.name, b"c000001", b'{"schema_version": 1, "number": %d, "amount": NaN}' % number)
            for number, topic in enumerate(_TOPICS[int(self._rng.integers(len(_TOPICS)))] for _ in range(times))
        ]

    def _next(self, seconds_between: float) -> DrillEvent:
        self._number += 1
        self.now += timedelta(microseconds=int(self._rng.exponential(seconds_between) * 1e6) + 1)
        topic = _TOPICS[int(self._rng.choice(len(_TOPICS), p=_WEIGHTS))]
        event = _MAKERS[topic](self._rng, f"{self._number:07d}", self.now)
        if isinstance(event, ChargebackReported):
            event = self._reported_again(event)
            self._reported = [*self._reported[1 - _REVERSIBLE :], event]
        elif topic is REVERSALS and self._reported:
            event = self._taken_back()
        return DrillEvent(topic, event)

    def _reported_again(self, event: ChargebackReported) -> ChargebackReported:
        """The event, or sometimes another chargeback of a payment that was disputed before."""
        if not self._reported or self._rng.integers(_SECOND_EVERY):
            return event
        before = self._reported[int(self._rng.integers(len(self._reported)))]
        if self.now - before.event_timestamp > LABEL_DELAY:
            return event
        return msgspec.structs.replace(before, chargeback_id=event.chargeback_id, created_timestamp=self.now)

    def _taken_back(self) -> Event:
        """The reversal of an earlier chargeback, each at most once."""
        report = self._reported.pop(int(self._rng.integers(len(self._reported))))
        return ChargebackReversed(**(msgspec.structs.asdict(report) | {"created_timestamp": self.now}))


def _one_of(rng: np.random.Generator, letter: str, count: int) -> str:
    return f"{letter}{int(rng.integers(count)):06d}"


def _category(rng: np.random.Generator) -> Category:
    return CATEGORIES[int(rng.integers(len(CATEGORIES)))]  # type: ignore[return-value] # the literal's own values


def _transaction(rng: np.random.Generator, number: str, now: datetime) -> Event:
    return Transaction(
        schema_version=1,
        event_timestamp=now,
        transaction_id=f"x{number}",
        customer_id=_one_of(rng, "c", _CUSTOMERS),
        terminal_id=_one_of(rng, "t", _TERMINALS),
        amount=round(float(rng.lognormal(3.0, 1.0)), 2),
    )


def _chargeback(rng: np.random.Generator, number: str, now: datetime) -> ChargebackReported:
    return ChargebackReported(
        schema_version=1,
        event_timestamp=now - timedelta(seconds=int(rng.integers(1, 6 * 86_400))),
        chargeback_id=f"b{number}",
        transaction_id=f"x{number}",
        customer_id=_one_of(rng, "c", _CUSTOMERS),
        terminal_id=_one_of(rng, "t", _TERMINALS),
        created_timestamp=now,
    )


def _reversal(rng: np.random.Generator, number: str, now: datetime) -> Event:
    """The reversal of an unknown chargeback."""
    return ChargebackReversed(**msgspec.structs.asdict(_chargeback(rng, number, now)))


def _video(rng: np.random.Generator, number: str, now: datetime) -> Event:
    return VideoPublished(
        schema_version=1,
        event_timestamp=now,
        video_id=f"n{number}",
        category=_category(rng),
        duration_seconds=round(float(rng.uniform(10.0, 3_600.0)), 1),
    )


def _page(rng: np.random.Generator, number: str, now: datetime) -> Event:
    videos = rng.choice(_VIDEOS, size=10, replace=False).tolist()
    return PageShown(
        schema_version=1,
        event_timestamp=now,
        impression_id=f"i{number}",
        session_id=f"s{number}",
        viewer_id=_one_of(rng, "v", _VIEWERS),
        video_ids=[f"m{video:06d}" for video in videos],
        propensities=[0.5] * len(videos),
        policy="popularity",
    )


def _watch(rng: np.random.Generator, number: str, now: datetime) -> Event:
    return VideoWatched(
        schema_version=1,
        event_timestamp=now,
        watch_id=f"w{number}",
        impression_id=f"i{number}",
        viewer_id=_one_of(rng, "v", _VIEWERS),
        video_id=_one_of(rng, "m", _VIDEOS),
        category=_category(rng),
        position=int(rng.integers(1, 11)),
        watch_seconds=round(float(rng.uniform(0.0, 600.0)), 3),
        completion=float(rng.uniform()),
    )


def _rating(rng: np.random.Generator, number: str, now: datetime) -> Event:
    return VideoRated(
        schema_version=1,
        event_timestamp=now,
        rating_id=f"r{number}",
        viewer_id=_one_of(rng, "v", _VIEWERS),
        video_id=_one_of(rng, "m", _VIDEOS),
        rating=float(rng.integers(0, 11)) / 2,
    )


def _prediction(rng: np.random.Generator, number: str, now: datetime) -> Event:
    customer = _one_of(rng, "c", _CUSTOMERS)
    return PredictionLogged(
        schema_version=1,
        event_timestamp=now,
        created_timestamp=now,
        prediction_id=f"p{number}",
        use_case="fraud",
        request_id=f"x{number}",
        entity_id=customer,
        model_version="1",
        items=[],
        scores=[float(rng.uniform())],
        decision="approve",
        reasons=["amount is large"],
        features=[1.0, 2.0],
        entity_keys=[customer, _one_of(rng, "t", _TERMINALS)],
        state_micros=[None, None],
        catalogue_timestamp=None,
        feature_age_seconds=None,
        degraded=False,
        latency_ms=1.5,
    )


def _exposure(rng: np.random.Generator, number: str, now: datetime) -> Event:
    return ExposureLogged(
        schema_version=1,
        event_timestamp=now,
        exposure_id=f"e{number}",
        experiment="ranker",
        arm="treatment" if rng.integers(2) else "control",
        viewer_id=_one_of(rng, "v", _VIEWERS),
        prediction_id=f"p{number}",
        model_version="1",
    )


_MAKERS: dict[Topic, Callable[[np.random.Generator, str, datetime], Event]] = {
    TRANSACTIONS: _transaction,
    CHARGEBACKS: _chargeback,
    REVERSALS: _reversal,
    VIDEOS: _video,
    IMPRESSIONS: _page,
    WATCHES: _watch,
    RATINGS: _rating,
    SHADOWS: _prediction,
    EXPOSURES: _exposure,
    PREDICTIONS: _prediction,
}
