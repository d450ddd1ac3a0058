"""Forwarding: rows reach the task that owns them once, however often and however cut they are sent."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_events import NOW
from stream_harness import new_file, open_state, stored

from reference_system.event_time import micros
from reference_system.events import REPARTITION_TOPIC
from reference_system.features.stream.forwarding import (
    Forwarded,
    ForwardedRows,
    decode_forwarded,
    encode_forwarded,
    untaken,
)
from reference_system.features.stream.snapshot import snapshot
from reference_system.use_cases.fraud.features import TERMINAL_RISK
from reference_system.windows import unpack_tail

T0 = micros(NOW)


def rows(*offsets: int, topic: str = "transactions") -> ForwardedRows:
    """A row for each offset; its time tells which."""
    return ForwardedRows(
        view="terminal_risk",
        topic=topic,
        keys=["t1"] * len(offsets),
        offsets=list(offsets),
        known=[T0 + offset for offset in offsets],
        additions=[(T0 + offset, 0.0, 1.0) for offset in offsets],
    )


def record(*offsets: int, source: int = 1, reached: int | None = None, topic: str = "transactions") -> Forwarded:
    until = max(offsets) + 1 if reached is None else reached
    return Forwarded(source=source, reached={topic: until}, rows=[rows(*offsets, topic=topic)])


def taken_by(path: Path, *polls: list[Forwarded]) -> list[int]:
    """The offsets whose rows are in the state after these polls, each over the file as a crash would leave it."""
    position = 0
    for poll in polls:
        position += len(poll)
        open_state(path, tasks=2).apply([], forwarded=poll, forwarded_until=position)
    state = stored(path).get(("terminal_risk", "t1"), (0, b""))[1]
    return [int(time) - T0 for time in unpack_tail(TERMINAL_RISK, state).times]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return new_file(tmp_path, tasks=2)


fields = st.dictionaries(st.text(max_size=5), st.one_of(st.floats(allow_nan=False), st.integers(0, 2**53), st.text()))
additions = st.one_of(
    st.tuples(st.integers(0, 2**53), st.floats(allow_nan=False), st.floats(allow_nan=False)),
    st.tuples(st.integers(0, 2**53), st.text(max_size=64)),
    st.tuples(st.integers(0, 2**53), fields),
)


@given(found=st.lists(st.tuples(st.text(max_size=64), st.integers(0, 2**62), st.integers(0, 2**53), additions)))
def test_a_record_is_the_same_again_after_its_bytes(found):
    keys, offsets, known, added = (list(column) for column in zip(*found, strict=True)) if found else ([], [], [], [])
    sent = Forwarded(
        source=3,
        reached={"transactions": 7, "watches": 0},
        rows=[ForwardedRows(view="v", topic="t", keys=keys, offsets=offsets, known=known, additions=added)],
    )
    again = decode_forwarded(encode_forwarded(sent))
    assert (again.source, again.reached) == (3, {"transactions": 7, "watches": 0})
    assert list(untaken(again, again.rows[0], {})) == list(zip(keys, known, added, strict=True))


@pytest.mark.parametrize("data", [b"", b"{}", b"\x93\x01\x80", encode_forwarded(record(1))[:-1]])
def test_bytes_that_are_no_record_are_an_error(data: bytes):
    with pytest.raises(msgspec.MsgspecError):
        decode_forwarded(data)


def test_rows_are_taken_from_where_the_last_record_ended():
    sent = record(3, 5, 9)
    assert [known - T0 for _, known, _ in untaken(sent, sent.rows[0], {})] == [3, 5, 9]
    assert [known - T0 for _, known, _ in untaken(sent, sent.rows[0], {(1, "transactions"): 5})] == [5, 9]
    assert list(untaken(sent, sent.rows[0], {(1, "transactions"): 10})) == []
    assert len(list(untaken(sent, sent.rows[0], {(2, "transactions"): 10, (1, "watches"): 10}))) == 3


def test_rows_need_not_be_in_the_order_of_their_offsets():
    sent = record(9, 3, 5)
    assert [known - T0 for _, known, _ in untaken(sent, sent.rows[0], {(1, "transactions"): 5})] == [9, 5]


@pytest.mark.parametrize("together", [True, False])
def test_a_record_that_is_sent_again_adds_nothing(path: Path, together: bool):  # noqa: FBT001 - both ways
    records = [record(0, 1), record(0, 1), record(2), record(0, 1)]
    polls = [records] if together else [[each] for each in records]
    assert taken_by(path, *polls) == [0, 1, 2]


def test_a_source_that_was_rebuilt_may_cut_its_records_differently(path: Path):
    assert taken_by(path, [record(0, 3), record(4, reached=8)], [record(0), record(3, 4, 9, 12)]) == [0, 3, 4, 9, 12]


def test_what_a_source_read_without_sending_rows_is_remembered(path: Path):
    assert taken_by(path, [record(0, reached=10)], [record(5, 11)]) == [0, 11]


def test_each_source_and_topic_is_remembered_for_itself(path: Path):
    assert taken_by(path, [record(7)], [record(5, source=0), record(6, topic="chargebacks"), record(6)]) == [5, 6, 7]
    assert snapshot(path).taken == {(0, "transactions"): 6, (1, "transactions"): 8, (1, "chargebacks"): 7}


@pytest.mark.parametrize("seed", range(10))
def test_any_cuts_sent_any_number_of_times_are_taken_once(seed: int, path: Path):
    rng = np.random.default_rng(seed)
    sent = 0
    with closing(open_state(path, tasks=2)) as state:
        for position in range(1, 9):
            # A life of the source begins anywhere at or before where the last one ended: never after it.
            start = int(rng.integers(0, sent + 1))
            end = int(rng.integers(start + 1, start + 9))
            sent = max(sent, end)
            state.apply([], forwarded=[record(*range(start, end))], forwarded_until=position)
    state = stored(path)["terminal_risk", "t1"][1]
    assert [int(time) - T0 for time in unpack_tail(TERMINAL_RISK, state).times] == list(range(sent))


def test_a_failed_poll_takes_nothing(path: Path):
    state = open_state(path, tasks=2)
    broken = record(1, 2)
    broken.rows.append(
        ForwardedRows(view="no such view", topic="transactions", keys=["k"], offsets=[1], known=[1], additions=[(1,)])
    )
    with pytest.raises(KeyError):
        state.apply([], forwarded=[record(0), broken], forwarded_until=2)
    assert REPARTITION_TOPIC not in state.next_offsets()
    state.apply([], forwarded=[record(0), record(1, 2)], forwarded_until=2)
    state.close()
    times = unpack_tail(TERMINAL_RISK, stored(path)["terminal_risk", "t1"][1]).times
    assert [int(time) - T0 for time in times] == [0, 1, 2]
