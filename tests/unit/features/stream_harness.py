"""What the tests of the stream's state share: arrivals, empty files, and what a file holds."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from datetime import timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sample_events import NOW, example, stream

from reference_system.events import Event
from reference_system.features.stream_rebuild import rebuild
from reference_system.features.stream_state import StreamState
from reference_system.features.stream_verdicts import Arrival
from reference_system.use_cases import TOPICS, VIEWS, topic_named
from reference_system.windows import WindowedView, unpack_tail

BY_NAME = {view.name: view for view in VIEWS}
MICRO = timedelta(microseconds=1)


def new_file(folder: Path) -> Path:
    """An empty state file."""
    path = folder / "state.sqlite"
    path.write_bytes(empty_file())
    return path


@cache
def empty_file() -> bytes:
    """The rebuild of an empty lake, made once."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        nothing = Path(folder) / "lake"
        rebuild(path, nothing, TOPICS, VIEWS, count_dead_letters=lambda _: {}, report=lambda _: None)
        return path.read_bytes()


def at(event: Event | None, offset: int, *, topic: str = "transactions", partition: int = 0) -> Arrival:
    return Arrival(topic_named(topic), partition, offset, event)


def paid(name: str, moment=NOW, **fields) -> Event:
    return example("transactions", transaction_id=name, event_timestamp=moment, **fields)


def arrivals_of(seed: int, count: int, *, partitions: int = 3) -> list[Arrival]:
    """A stream as Kafka would hand it out: spread over partitions by key, numbered in each."""
    ends: Counter[tuple[str, int]] = Counter()
    arrivals = []
    for topic, event in stream(seed, count):
        partition = sum(topic.key_of(event).encode()) % partitions
        arrivals.append(Arrival(topic, partition, ends[topic.name, partition], event))
        ends[topic.name, partition] += 1
    return arrivals


def outcomes(state: StreamState) -> dict[str, int]:
    totals: Counter[str] = Counter()
    for (_, outcome), count in state.totals().items():
        totals[outcome] += count
    return dict(totals)


def stored(path: Path) -> dict[tuple[str, str], tuple[int, bytes]]:
    with closing(sqlite3.connect(path)) as db:
        return {
            (view, key): (time, data)
            for view, key, time, data in db.execute("SELECT view, key, time, state FROM state")
        }


def assert_equal_states(one, other):
    assert one.keys() == other.keys()
    for (name, key), (time, data) in one.items():
        view = BY_NAME[name]
        assert other[name, key][0] == time
        if not isinstance(view, WindowedView):
            assert other[name, key][1] == data
            continue
        ours, theirs = unpack_tail(view, data), unpack_tail(view, other[name, key][1])
        assert np.array_equal(ours.times, theirs.times)
        assert np.allclose(ours.values, theirs.values, rtol=0, atol=1e-9)
