"""A state file from the lake: as if the stream had never stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from sample_events import NOW, example, stream
from stream_harness import arrivals_of, assert_equal_states, new_file, outcomes, stored

from reference_system import delta_lake
from reference_system.features.stream_rebuild import rebuild
from reference_system.features.stream_state import StreamState
from reference_system.features.stream_verdicts import LATE_AFTER, Arrival, Outcome, Place
from reference_system.use_cases import TOPICS, VIEWS, topic_named


def to_lake(lake: Path, arrivals: Sequence[Arrival], first: Sequence[bool]) -> None:
    """What the sink would commit."""
    for topic in TOPICS:
        mine = [(each, is_first) for each, is_first in zip(arrivals, first, strict=True) if each.topic == topic]
        kept = [each for each, is_first in mine if is_first]
        table = delta_lake.to_table(
            topic, [each.event for each in kept], [each.partition for each in kept], [each.offset for each in kept]
        )
        delta_lake.append(lake, topic, table, versions={each.partition: each.offset for each, _ in mine})


def rebuilt(folder: Path, lake: Path, *, refused: Mapping[str, int] | None = None) -> Path:
    path = folder / "rebuilt.sqlite"
    rebuild(path, lake, TOPICS, VIEWS, count_dead_letters=lambda _: refused or {}, report=lambda _: None)
    return path


def test_a_rebuilt_state_equals_the_lost_one_and_goes_on_as_it_would_have(tmp_path: Path):
    arrivals, rest = arrivals_of(7, 1_000)[:800], arrivals_of(7, 1_000)[800:]
    original = new_file(tmp_path)
    with closing(StreamState(original, VIEWS)) as state:
        to_lake(tmp_path / "lake", arrivals, state.apply(arrivals))
        copy = rebuilt(tmp_path, tmp_path / "lake")
        assert_equal_states(stored(original), stored(copy))
        with closing(StreamState(copy, VIEWS)) as again:
            assert again.totals() == state.totals()
            assert again.next_offsets() == state.next_offsets()
            again.apply(arrivals)
            assert again.totals() == state.totals(), "nothing of it is new"
            assert again.apply(rest) == state.apply(rest)
            assert again.totals() == state.totals()
    assert_equal_states(stored(original), stored(copy))


def test_the_outcomes_of_before_are_found_again(tmp_path: Path):
    topic = topic_named("transactions")
    late = example("transactions", transaction_id="x2", event_timestamp=NOW - LATE_AFTER - timedelta(seconds=1))
    arrivals = [
        Arrival(topic, 0, 0, example("transactions")),
        Arrival(topic, 0, 1, None),
        Arrival(topic, 0, 2, late),
        Arrival(topic, 0, 3, example("transactions")),
        Arrival(topic, 1, 0, None),
    ]
    asked: list[Mapping[Place, int]] = []

    def count(below: Mapping[Place, int]) -> dict[str, int]:
        asked.append(below)
        return {"transactions": 2}

    with closing(StreamState(new_file(tmp_path), VIEWS)) as state:
        to_lake(tmp_path / "lake", arrivals, state.apply(arrivals))
        before = outcomes(state)
    rebuild(tmp_path / "rebuilt", tmp_path / "lake", TOPICS, VIEWS, count_dead_letters=count, report=lambda _: None)
    with closing(StreamState(tmp_path / "rebuilt", VIEWS)) as state:
        assert outcomes(state) == before == dict.fromkeys(Outcome, 1) | {Outcome.DEAD_LETTERED: 2}
    assert asked == [{("transactions", 0): 4, ("transactions", 1): 1}]


def test_generated_history_is_state_but_was_never_consumed(tmp_path: Path):
    events = stream(8, 500)
    for topic in TOPICS:
        mine = [event for of, event in events if of == topic]
        nowhere = [delta_lake.NO_OFFSET] * len(mine)
        delta_lake.append(tmp_path / "lake", topic, delta_lake.to_table(topic, mine, nowhere, nowhere), versions={})
    with closing(StreamState(rebuilt(tmp_path, tmp_path / "lake"), VIEWS)) as state:
        assert state.next_offsets() == {}
        assert state.totals() == {}
        assert {view.name for view, _ in state.unpushed()} == {view.name for view in VIEWS}
        again = next(event for topic, event in reversed(events) if topic.name == "watches")
        new = example("watches", watch_id="new", event_timestamp=again.event_timestamp - timedelta(hours=23))
        old = example("watches", watch_id="old", event_timestamp=again.event_timestamp - timedelta(hours=25))
        watches = topic_named("watches")
        first = state.apply([Arrival(watches, 2, n, event) for n, event in enumerate((again, new, old))])
        assert first == [False, True, True]
        assert outcomes(state) == {Outcome.DUPLICATE: 1, Outcome.COUNTED: 1, Outcome.LATE: 1}


def test_a_rebuild_that_fails_leaves_the_old_file_alone(tmp_path: Path):
    path = new_file(tmp_path)
    with closing(StreamState(path, VIEWS)) as state:
        state.apply(arrivals_of(9, 50))
    before = stored(path)

    def fail(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(path, tmp_path / "lake", TOPICS, VIEWS, count_dead_letters=lambda _: {}, report=fail)
    assert stored(path) == before
    rebuild(path, tmp_path / "lake", TOPICS, VIEWS, count_dead_letters=lambda _: {}, report=lambda _: None)
    assert stored(path) == {}


def test_the_report_has_a_line_for_each_view(tmp_path: Path):
    lines: list[str] = []
    path = tmp_path / "state.sqlite"
    rebuild(path, tmp_path / "lake", TOPICS, VIEWS, count_dead_letters=lambda _: {}, report=lines.append)
    assert Counter(line.split(":")[0] for line in lines)[VIEWS[0].name] == 1
    assert len(lines) == 1 + len(VIEWS)


def test_rows_of_a_partition_are_judged_in_the_order_of_their_offsets(tmp_path: Path):
    rng = np.random.default_rng(0)
    topic = topic_named("transactions")
    arrivals = [
        Arrival(
            topic,
            0,
            offset,
            example(
                "transactions",
                transaction_id=f"x{offset}",
                event_timestamp=NOW - timedelta(hours=float(rng.uniform(0, 60))),
            ),
        )
        for offset in range(200)
    ]
    with closing(StreamState(new_file(tmp_path), VIEWS)) as state:
        to_lake(tmp_path / "lake", arrivals, state.apply(arrivals))
        before = outcomes(state)
    assert before[Outcome.LATE] > 20
    with closing(StreamState(rebuilt(tmp_path, tmp_path / "lake"), VIEWS)) as state:
        assert outcomes(state) == before
