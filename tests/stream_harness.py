"""What the tests of the stream's state share: arrivals, task files, tasks in memory, and what files hold."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from sample_events import NOW, example, stream

from reference_system.event_time import micros
from reference_system.events import REPARTITION_TOPIC, Event, PartitionKey, Topic
from reference_system.features.stream.deduplication import Outcome, PolledBatch
from reference_system.features.stream.forwarding import Forwarded, decode_forwarded
from reference_system.features.stream.kafka_keys import partition_of
from reference_system.features.stream.rebuild import rebuild_tasks
from reference_system.features.stream.snapshot import digest, snapshots, task_file
from reference_system.features.stream.state import StreamState
from reference_system.features.stream.state_rows import reader, topics_of
from reference_system.features.stream.state_updates import fold
from reference_system.lake import delta_lake
from reference_system.use_cases import TOPICS, VIEWS, topic_named
from reference_system.windows import WindowedView

BY_NAME = {view.name: view for view in VIEWS}
MICRO = timedelta(microseconds=1)

# (view, key) → (time, state)
States = dict[tuple[str, str], tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record of a partition; what is refused has no event."""

    topic: Topic
    partition: int
    offset: int
    event: Event | None

    @property
    def place(self) -> tuple[str, int, int]:
        return self.topic.name, self.partition, self.offset


def at(event: Event | None, offset: int, *, topic: str = "transactions", partition: int = 0) -> Arrival:
    return Arrival(topic_named(topic), partition, offset, event)


def paid(name: str, moment: datetime = NOW, **fields: Any) -> Event:
    return example("transactions", transaction_id=name, event_timestamp=moment, **fields)


def grow(view: WindowedView, states: dict[str, bytes], topic: str, event: Event) -> None:
    """Fold one event into the states of the entities that it touches."""
    if topic in topics_of(view):
        for key, _, addition in reader(view, topic)([event], [micros(event.event_timestamp)]):
            states[key] = fold(view, states.get(key), 0, [addition])


def rows_of(view: WindowedView, topic: str, event: Event) -> Iterator[tuple[str, int, np.ndarray]]:
    """What one event adds to a view without reports: (entity key, time of the row, values)."""
    if topic in topics_of(view):
        for key, _, (time, *values) in reader(view, topic)([event], [micros(event.event_timestamp)]):
            yield key, time, np.array(values)


# Task files


def new_file(folder: Path, *, task: int = 0, tasks: int = 1) -> Path:
    """An empty task file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = task_file(folder, task)
    path.write_bytes(empty_file(tasks))
    return path


@cache
def empty_file(tasks: int) -> bytes:
    """The rebuild of an empty lake, made once: it is the same for every task."""
    with TemporaryDirectory() as folder:
        build(Path(folder), Path(folder) / "lake", tasks=tasks, only=[0])
        return task_file(Path(folder), 0).read_bytes()


def build(
    folder: Path,
    lake: Path,
    *,
    tasks: int = 1,
    only: Sequence[int] | None = None,
    refused: Mapping[PartitionKey, Sequence[int]] | None = None,
) -> None:
    """Rebuild task files; `refused` are the offsets of dead letters."""

    def count(below: Mapping[PartitionKey, int]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for place, offsets in (refused or {}).items():
            counts[place[0]] += sum(offset < below.get(place, 0) for offset in offsets)
        return dict(counts)

    rebuild_tasks(
        folder,
        lake,
        TOPICS,
        VIEWS,
        build=range(tasks) if only is None else only,
        tasks=tasks,
        count_dead_letters=count,
        report=lambda _: None,
    )


def open_state(path: Path, *, task: int = 0, tasks: int = 1) -> StreamState:
    return StreamState(path, VIEWS, task=task, tasks=tasks)


def batches_of(arrivals: Iterable[Arrival]) -> list[PolledBatch]:
    by_topic: dict[str, list[Arrival]] = defaultdict(list)
    for each in arrivals:
        by_topic[each.topic.name].append(each)
    return [
        PolledBatch(topic_named(name), [each.offset for each in mine], [each.event for each in mine])
        for name, mine in by_topic.items()
    ]


def apply(state: StreamState, arrivals: Sequence[Arrival]) -> list[Outcome]:
    """Apply a poll; what became of each record, in the order of the arrivals."""
    batches = batches_of(arrivals)
    found = dict(zip([batch.topic.name for batch in batches], map(iter, state.apply(batches)), strict=True))
    return [next(found[each.topic.name]) for each in arrivals]


def outcomes(state: StreamState) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_, outcome), count in state.totals().items():
        totals[outcome] += count
    return dict(totals)


def stored(path: Path) -> States:
    with closing(sqlite3.connect(path)) as db:
        return {
            (view, key): (time, data)
            for view, key, time, data in db.execute("SELECT view, key, time, state FROM state")
        }


def to_lake(lake: Path, arrivals: Sequence[Arrival], verdicts: Sequence[Outcome]) -> None:
    """What the sink commits: events with their origin, and how far it read."""
    for topic in TOPICS:
        mine = [(each, verdict) for each, verdict in zip(arrivals, verdicts, strict=True) if each.topic == topic]
        kept = [pair for pair in mine if pair[1] in (Outcome.COUNTED, Outcome.LATE)]
        table = delta_lake.to_table(
            topic,
            [each.event for each, _ in kept if each.event is not None],
            [each.partition for each, _ in kept],
            [each.offset for each, _ in kept],
            [verdict is Outcome.LATE for _, verdict in kept],
        )
        delta_lake.append(lake, topic, table, versions={each.partition: each.offset for each, _ in mine})


# Streams


def numbered(messages: Iterable[tuple[Topic, str, Event | None]], *, tasks: int = 1) -> list[Arrival]:
    """Messages (topic, key, event) as Kafka hands them out: spread over partitions by key, numbered in each."""
    ends: Counter[tuple[str, int]] = Counter()
    arrivals = []
    for topic, key, event in messages:
        partition = partition_of(key, tasks)
        arrivals.append(Arrival(topic, partition, ends[topic.name, partition], event))
        ends[topic.name, partition] += 1
    return arrivals


def arrivals_of(seed: int, count: int, *, tasks: int = 1) -> list[Arrival]:
    """Valid events in the order in which they became known."""
    return numbered(((topic, topic.key_of(event), event) for topic, event in stream(seed, count)), tasks=tasks)


def rough_messages(seed: int, count: int) -> list[tuple[Topic, str, Event | None]]:
    """Events out of order by up to some hours, some twice, some days late, some refused.

    What is late is three days behind everything, and what is not is at most twelve hours: so the verdicts are the
    same however many partitions there are.
    """
    rng = np.random.default_rng(seed)
    events = stream(seed, count)
    events = [events[place] for place in np.argsort(np.arange(count) + rng.uniform(0, count / 20, count))]
    messages: list[tuple[Topic, str, Event | None]] = []
    event: Any
    for number, (topic, event) in enumerate(events):
        messages.append((topic, topic.key_of(event), event))
        if rng.random() < 0.05:
            messages.append(messages[-int(rng.integers(1, 30, endpoint=True)) if number > 30 else -1])
        if topic.name == "watches" and rng.random() < 0.3:
            who = {"viewer_id": event.viewer_id, "video_id": event.video_id, "rating": float(rng.integers(1, 11)) / 2}
            rating: Any = example("ratings", rating_id=f"r{number}", event_timestamp=event.event_timestamp, **who)
            messages.append((topic_named("ratings"), rating.viewer_id, rating))
        if number > count / 2 and topic.name in ("transactions", "watches") and rng.random() < 0.1:
            late = msgspec.structs.replace(
                event,
                **{topic.event_id: f"late-{number}", "event_timestamp": event.event_timestamp - timedelta(days=3)},
            )
            messages.append((topic, topic.key_of(late), late))
        if rng.random() < 0.03:
            messages.append((topic, topic.key_of(event), None))
    return messages


# Tasks


@dataclass(slots=True)
class Tasks:
    """Every task of a stream, with the repartition topic and what the lake has committed, in memory."""

    folder: Path
    arrivals: Sequence[Arrival]
    tasks: int
    states: dict[int, StreamState] = field(init=False)
    # The repartition topic: for each target its records.
    log: dict[int, list[bytes]] = field(init=False)
    verdicts: dict[tuple[str, int, int], Outcome] = field(init=False)
    committed: dict[PartitionKey, int] = field(init=False)
    records: dict[tuple[str, int], list[Arrival]] = field(init=False)
    # The online store with its guard: (view, key) → (time, sequence, state).
    store: dict[tuple[str, str], tuple[int, int, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states = {
            task: open_state(new_file(self.folder, task=task, tasks=self.tasks), task=task, tasks=self.tasks)
            for task in range(self.tasks)
        }
        self.log = {task: [] for task in self.states}
        self.verdicts, self.committed, self.records = {}, {}, defaultdict(list)
        for each in self.arrivals:
            self.records[each.topic.name, each.partition].append(each)

    def waiting(self, task: int) -> int:
        """How many records the task has not taken."""
        reached = self.states[task].next_offsets()
        events = sum(
            len(found) - reached.get(topic, 0) for (topic, number), found in self.records.items() if number == task
        )
        return events + len(self.log[task]) - reached.get(REPARTITION_TOPIC, 0)

    def poll(self, task: int, count: int, *, again: int = 0) -> None:
        """Take up to `count` records of each topic and of the repartition topic.

        Of those that were taken, up to `again` are read again; not what the lake has: its ids may be forgotten.
        """
        state = self.states[task]
        reached = state.next_offsets()
        found = []
        for (topic, number), records in self.records.items():
            if number == task:
                begin = reached.get(topic, 0)
                found += records[max(self.committed.get((topic, task), 0), begin - again) : begin + count]
        begin = reached.get(REPARTITION_TOPIC, 0)
        end = min(begin + count, len(self.log[task]))
        forwarded: list[Forwarded] = [decode_forwarded(data) for data in self.log[task][begin:end]]
        batches = batches_of(found)
        verdicts = state.apply(batches, forwarded=forwarded, forwarded_until=end if forwarded else None)
        by_topic = {batch.topic.name: iter(each) for batch, each in zip(batches, verdicts, strict=True)}
        for each in found:
            verdict = next(by_topic[each.topic.name])
            assert self.verdicts.setdefault(each.place, verdict) == verdict, (
                "a record that is read again has its verdict"
            )

    def send(self, task: int, count: int, *, acknowledged: bool = True) -> None:
        """Send the next records of an outbox; what is not acknowledged is sent again later."""
        for number, target, record in self.states[task].outbox()[:count]:
            self.log[target].append(record)
            if acknowledged:
                self.states[task].mark_sent(number)

    def push(self, task: int) -> None:
        """Push what is marked: of two values the newer time wins, at equal times the higher sequence."""
        for view, rows in self.states[task].unpushed():
            for key, time, sequence, state in rows:
                before = self.store.get((view.name, key))
                if before is None or (time, sequence) > before[:2]:
                    self.store[view.name, key] = (time, sequence, state)
        self.states[task].mark_pushed()

    def crash(self, task: int) -> None:
        """Open the file again; the former owner never closed it."""
        self.states[task] = open_state(task_file(self.folder, task), task=task, tasks=self.tasks)

    def commit(self, task: int) -> None:
        """Note that the lake has what the task has: the loop sends its outbox before that."""
        self.send(task, len(self.states[task].outbox()))
        for topic, offset in self.states[task].next_offsets().items():
            if topic != REPARTITION_TOPIC and offset:
                self.committed[topic, task] = offset
                self.states[task].forget(topic)

    def lose(self, lake: Path, *tasks: int) -> None:
        """Lose the files of tasks and build them from what the lake has."""
        kept = [each for each in self.arrivals if each.offset < self.committed.get(each.place[:2], 0)]
        to_lake(lake, kept, [self.verdicts[each.place] for each in kept])
        refused = {
            place: [each.offset for each in found if each.event is None] for place, found in self.records.items()
        }
        build(self.folder, lake, tasks=self.tasks, only=tasks, refused=refused)
        for task in tasks:
            self.crash(task)

    def drain(self) -> None:
        """Go on until nothing waits anywhere."""
        while any(self.waiting(task) or state.outbox() for task, state in self.states.items()):
            for task, state in self.states.items():
                self.poll(task, 10_000)
                self.send(task, len(state.outbox()))
        for task in self.states:
            self.push(task)

    def union(self) -> States:
        """The states of all tasks; each entity has one owner."""
        found: States = {}
        for task in self.states:
            mine = stored(task_file(self.folder, task))
            assert not mine.keys() & found.keys()
            assert all(partition_of(key, self.tasks) == task for _, key in mine)
            found |= mine
        return found

    def online(self) -> States:
        return {key: (time, state) for key, (time, _, state) in self.store.items()}

    def totals(self) -> Counter[tuple[str, str]]:
        return sum((Counter(state.totals()) for state in self.states.values()), Counter())

    def digest(self) -> str:
        return digest(snapshots(self.folder))

    def close(self) -> None:
        for state in self.states.values():
            state.close()
