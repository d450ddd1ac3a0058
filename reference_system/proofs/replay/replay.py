"""Replay: runs a period through Kafka, the consumer and the read path, and compares served features with history.

In: a dataset and a period. Out: the served vectors, and a report.
Invariant: the request of each event is sent before the event is produced, in the order in which events became known;
a request is answered only when the online store has every event that it depends on.

Requests are grouped, so that Kafka and SQLite work in batches: an event that was produced but not consumed yet
matters from its row's time plus the shortest delay of the view on. A request for that entity from that time on ends
the group: the produced events are consumed first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from operator import attrgetter
from time import monotonic
from typing import Any

import numpy as np
import pyarrow as pa
from prometheus_client import CollectorRegistry

from reference_system.arrays import Floats
from reference_system.clock import FixedClock
from reference_system.errors import ServiceError, StateError
from reference_system.event_time import micros
from reference_system.events import Event, encode
from reference_system.features.feast.store import apply, open_store, read_states, write_states
from reference_system.features.stream.deduplication import Outcome
from reference_system.features.stream.state_rows import is_keyed_by
from reference_system.flows.ingestion.loop import IngestionLoop
from reference_system.flows.ingestion.setup import open_loop
from reference_system.ingestion.prometheus_metrics import IngestionMetrics
from reference_system.lake.datasets import dataset_for, order_folder
from reference_system.progress import Progress
from reference_system.proofs.kafka_raw_producer import DrillProducer, RawMessage
from reference_system.proofs.parity.comparison import RELATIVE_TOLERANCE
from reference_system.proofs.replay.cases import ReplayCase, case_of
from reference_system.proofs.replay.events import Happenings, Period, ReplayEvent, copy_history
from reference_system.proofs.replay.report import LEAST_EQUAL, ReplayComparison, ReplayReport, compare_rows
from reference_system.proofs.scratch_system import Scratch, scratch_system
from reference_system.serving.feature_reads import ReadStates
from reference_system.settings import Settings
from reference_system.use_cases import TOPICS
from reference_system.windows import WindowedView, row_time

# Bounds a group in which no entity repeats.
_MOST_EVENTS = 2_000
# A group is consumed within a second; after this time without progress the broker has failed.
_PATIENCE_SECONDS = 60.0
# Shares of the progress bar at the first request and after the last.
_READY, _ASKED = 0.05, 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """A request to replay the period [start, end) of a dataset."""

    use_case: str
    dataset: str
    start: datetime
    end: datetime
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The figures of a run."""

    history_rows: int
    groups: int
    seconds: float


def replay_period(settings: Settings, request: ReplayRequest, progress: Progress) -> tuple[pa.Table, ReplayReport]:
    """Play the period in a scratch system.

    Returns:
        The id and the served vector of each event that sent a request, in the order of the events; the report.

    Raises:
        StateError: if there is no such dataset, or no event of the period sends a request.
        ServiceError: if the scratch system's broker stops answering.
    """
    case = case_of(request.use_case)
    period = _period(settings, request, case)
    progress(0.0, "reading the period")
    happenings = Happenings(period)
    asked = happenings.asked
    if not asked.num_rows:
        raise StateError(
            f"{request.dataset} has no {case.asking.name} from {request.start:%Y-%m-%d} to {request.end:%Y-%m-%d}",
            next_command="workbook data list",
        )
    served, run = _run(settings, case, period, happenings, progress)
    progress(_ASKED, "comparing with history")
    found = compare_rows(case.names, served, case.history(period.paths.lake, period.order), asked, case.asking.key)
    progress(1.0, "done")
    columns = dict(zip(case.names, served.T, strict=True))
    table = pa.table({case.asking.event_id: asked[case.asking.event_id], **columns})
    return table, _report(request, run, len(happenings), found)


def _run(
    settings: Settings, case: ReplayCase, period: Period, happenings: Happenings, progress: Progress
) -> tuple[Floats, _Run]:
    """The served vectors, and the run's figures."""
    with scratch_system(settings, "replay") as scratch:
        progress(_READY / 2, "copying history")
        copied = copy_history(period, scratch.paths.lake)
        with _player(scratch, case, period.end) as player:
            began = monotonic()
            served = _play(player, happenings, happenings.asked.num_rows, progress)
            return served, _Run(history_rows=copied, groups=player.groups, seconds=monotonic() - began)


def _report(request: ReplayRequest, run: _Run, events: int, found: ReplayComparison) -> ReplayReport:
    rows = found.equal + found.ties + found.unexplained
    return ReplayReport(
        use_case=request.use_case,
        dataset=request.dataset,
        start=request.start.isoformat(),
        end=request.end.isoformat(),
        file=request.file,
        history_rows=run.history_rows,
        events=events,
        rows=rows,
        groups=run.groups,
        equal=found.equal,
        share_equal=found.equal / rows,
        explained_by_ties=found.ties,
        unexplained=found.unexplained,
        tolerance=RELATIVE_TOLERANCE,
        ok=found.equal >= LEAST_EQUAL * rows and not found.unexplained,
        seconds=round(run.seconds, 2),
        rows_per_second=round(rows / run.seconds, 1),
        features=found.features,
        differences=found.differences,
    )


def _period(settings: Settings, request: ReplayRequest, case: ReplayCase) -> Period:
    paths, _ = dataset_for(settings, request.dataset, request.use_case)
    return Period(
        paths=paths,
        order=order_folder(paths),
        asking=case.asking,
        views=case.views,
        start=request.start,
        end=request.end,
    )


def _play(player: Player, happenings: Happenings, rows: int, progress: Progress) -> Floats:
    """Send requests and produce events in turn; returns the vectors, shape (rows, len(case.names))."""
    served: list[Sequence[float]] = []
    began = monotonic()
    for number, happening in enumerate(happenings):
        if happening.asks:
            served.append(player.ask(happening.event))
        player.add(happening)
        if number % 500 == 0:
            speed = len(served) / max(monotonic() - began, 1e-9)
            share = _READY + (_ASKED - _READY) * len(served) / rows
            progress(share, f"{happening.event.event_timestamp:%Y-%m-%d %H:%M}, {speed:,.0f} requests/s")
    player.finish()
    return np.array(served, np.float64)


@dataclass(frozen=True, slots=True)
class _Row:
    """How an event of a topic changes a view: the key's field, and the delay until it matters."""

    view: WindowedView
    keys: Callable[[Any], str | list[str]]
    delay: int
    keyed: bool  # whether the task that reads the event owns the entity


class Player:
    """Sends requests and produces events in turn, over one broker and one online store."""

    def __init__(self, case: ReplayCase, producer: DrillProducer, loop: IngestionLoop, read: ReadStates) -> None:
        """Take the open resources."""
        self._case = case
        self._producer = producer
        self._loop = loop
        self._read = read
        self._rows = {name: _rows_of(name, case.views) for name in (topic.name for topic in TOPICS)}
        self._entities = [(view.name, attrgetter(view.entity)) for view in case.views]
        self._group: list[RawMessage] = []
        # (view, entity) → the time from which an event that was not consumed yet matters: for events of this group,
        # and for rows that are forwarded to another task.
        self._own: dict[tuple[str, str], int] = {}
        self._forwarded: dict[tuple[str, str], int] = {}
        self.groups = 0

    def ask(self, event: Event) -> Sequence[float]:
        """The vector that is served for the event, which is not produced yet."""
        moment = micros(event.event_timestamp)
        keys = [(name, entity(event)) for name, entity in self._entities]
        if any(self._forwarded.get(key, moment + 1) <= moment for key in keys):
            self._consume()
            self._settle()
        elif any(self._own.get(key, moment + 1) <= moment for key in keys):
            self._consume()
        return self._case.serve(event, self._read)

    def add(self, happening: ReplayEvent) -> None:
        """Add the event to the group to produce."""
        topic, event = happening.topic, happening.event
        self._group.append(RawMessage(topic.name, topic.key_of(event).encode(), encode(event)))
        time = micros(event.event_timestamp)
        for row in self._rows[topic.name]:
            matters = row_time(row.view, time) + row.delay
            keys = row.keys(event)
            pending = self._own if row.keyed else self._forwarded
            for key in (keys,) if isinstance(keys, str) else keys:
                at = (row.view.name, key)
                pending[at] = min(matters, pending.get(at, matters))
        if len(self._group) >= _MOST_EVENTS:
            self._consume()

    def finish(self) -> None:
        """Consume everything that is left."""
        self._consume()
        self._settle()
        self._loop.finish()

    def _consume(self) -> None:
        """Produce the group, and consume until the loop has taken all of it."""
        places = self._producer.send(self._group)
        ends: dict[tuple[str, int], int] = {}
        for place in places:
            at = (place.topic, place.partition)
            ends[at] = max(ends.get(at, 0), place.offset + 1)
        self._step_until(lambda: all(self._loop.positions()[at] >= end for at, end in ends.items()))
        self.groups += bool(places)
        self._group = []
        self._own.clear()

    def _settle(self) -> None:
        """Consume until no record waits, including rows for other tasks."""
        self._step_until(self._loop.caught_up)
        self._forwarded.clear()

    def _step_until(self, done: Callable[[], bool]) -> None:
        deadline = monotonic() + _PATIENCE_SECONDS
        while not done():
            if self._loop.step():
                deadline = monotonic() + _PATIENCE_SECONDS
            elif monotonic() > deadline:
                raise ServiceError(f"the consumer has read nothing for {_PATIENCE_SECONDS:.0f} s")


def _rows_of(topic: str, views: Sequence[WindowedView]) -> list[_Row]:
    return [
        _Row(
            view=view,
            keys=attrgetter(rows.entity),
            delay=min(window.delay_micros for window in view.windows),
            keyed=is_keyed_by(view, topic),
        )
        for view in views
        for rows in view.rows
        if topic in rows.topics
    ]


@contextmanager
def _player(scratch: Scratch, case: ReplayCase, end: datetime) -> Iterator[Player]:
    store = open_store(scratch.paths)
    apply(store)
    metrics = IngestionMetrics(TOPICS, Outcome, registry=CollectorRegistry())
    push = partial(write_states, store)
    with (
        DrillProducer(scratch.broker.bootstrap) as producer,
        open_loop(scratch.settings, push=push, metrics=metrics, clock=FixedClock(end)) as loop,
    ):
        yield Player(case, producer, loop, partial(read_states, store))
