"""Folds: an entity's state and its new additions give its next state.

In: a state's bytes and additions (`features/stream/state_rows.py`). Out: the bytes that the online store will hold.
Invariant: folding additions one by one or together, in any order within the lateness bound, gives the same bytes,
and they are those that `duckdb_snapshot.states` gives.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Collection, Sequence

import msgspec
import numpy as np

from reference_system.arrays import Floats
from reference_system.event_time import MICROS_PER_DAY
from reference_system.features.stream.state_rows import Addition
from reference_system.reported_rows import ReportedFact, header_of, memory_of, reports_in, standing
from reference_system.windows import LatestFields, RecentItems, Tail, View, WindowedView, extend, unpack_tail

_pack = msgspec.msgpack.Encoder().encode
_unpack_items = msgspec.msgpack.Decoder(list[tuple[int, str]]).decode
_TIME, _DOUBLE = struct.Struct("<q"), struct.Struct("<d")


def fold(view: View, state: bytes | None, time: int, additions: list[Addition]) -> bytes:
    """The next state.

    Args:
        view: the declaration.
        state: the state so far; `None` for an entity that is met for the first time.
        time: the newest moment that went into `state`.
        additions: at least one, in the order of arrival.
    """
    match view:
        case WindowedView() if view.once is not None:
            return _fold_with_reports(view, state or b"", additions)
        case WindowedView():
            return _fold_rows(view, state or b"", additions)
        case RecentItems():
            return _fold_items(view, state, additions)
        case LatestFields():
            return _fold_profile(state, time, additions)


def _fold_with_reports(view: WindowedView, state: bytes, additions: list[Addition]) -> bytes:
    """Rows that count as often as they come first; then reports, each of which may change the row of its fact."""
    size, oldest_fact = header_of(state)
    told: list[ReportedFact] = [each for each in additions if isinstance(each[1], str)]
    if not told and not size:
        return _fold_rows(view, state, additions)
    memory, rows = state[:size], state[size:]
    if len(told) < len(additions):
        rows = _fold_rows(view, rows, [each for each in additions if not isinstance(each[1], str)])
    if told:
        return _tell(view, reports_in(memory), unpack_tail(view, rows), told)
    oldest = _oldest(view, _TIME.unpack_from(rows, 8 * (len(rows) // view.plan.row_bytes) - 8)[0])
    if oldest_fact <= oldest:
        memory = memory_of(report for report in reports_in(memory) if report[0] > oldest)
    return memory + rows


def _tell(view: WindowedView, before: set[ReportedFact], tail: Tail, told: Sequence[ReportedFact]) -> bytes:
    """The state with more reports: a row for each fact, zeros where no report of it stands.

    The zeros keep the fact's moment, so a report leaves the same trace whether it was taken back before or after.
    """
    before = _reached(view, tail, before)
    after = before | _reached(view, tail, told)
    was, now = standing(before), standing(after)
    changed = [fact for fact in now if was.get(fact) != now[fact]]
    constants = dict(view.once.values) if view.once is not None else {}
    row = np.array([constants.get(name, 0.0) for name in view.columns])
    for fact in changed:
        if fact in was:
            tail = _without(tail, fact[0], row * was[fact])
    values: Floats = np.array([row * now[fact] for fact in changed])
    tail = extend(view, tail, np.array([time for time, _ in changed], np.int64), values)
    return memory_of(_reached(view, tail, after)) + tail.pack()


def _without(tail: Tail, time: int, row: Floats) -> Tail:
    """The tail with one of its rows less."""
    place = int(np.flatnonzero((tail.times == time) & (tail.values == row).all(axis=1))[0])
    return Tail(np.delete(tail.times, place), np.delete(tail.values, place, axis=0))


def _reached(view: WindowedView, tail: Tail, reports: Collection[ReportedFact]) -> set[ReportedFact]:
    """The reports of facts that the tail reaches back to."""
    if not len(tail.times):
        return set(reports)
    oldest = _oldest(view, int(tail.times[-1]))
    return {report for report in reports if report[0] > oldest}


def _oldest(view: WindowedView, newest: int) -> int:
    """The moment after which a state has rows: one more day than the horizon, as in `extend`."""
    return newest - view.horizon_micros - MICROS_PER_DAY


def _fold_rows(view: WindowedView, state: bytes, additions: list[Addition]) -> bytes:
    """Rows of another time than any that is there are spliced in; only the others need numpy."""
    if len(additions) > 1:
        additions.sort()
    width = 8 * (1 + len(view.columns))
    count = len(state) // width
    newest = _TIME.unpack_from(state, 8 * count - 8)[0] if count else None
    if view.tile_micros:
        if additions[0][0] == additions[-1][0] == newest:
            return _add_to_last(state, count, additions)
        return _merge(view, state, additions)
    if newest is None or additions[0][0] > newest:
        return _splice(view, state, additions, count, count)
    for number, addition in enumerate(additions):
        count = len(state) // width
        times = memoryview(state).cast("q")
        place = bisect_right(times, addition[0], 0, count)
        if place and times[place - 1] == addition[0]:
            return _merge(view, state, additions[number:])
        state = _splice(view, state, (addition,), count, place)
    return state


def _splice(view: WindowedView, state: bytes, additions: Sequence[Addition], count: int, place: int) -> bytes:
    """The state of `count` rows with the additions between the rows before and after `place`, trimmed."""
    newest = additions[-1][0] if place == count else _TIME.unpack_from(state, 8 * count - 8)[0]
    oldest = _oldest(view, newest)
    if additions[0][0] <= oldest:
        additions = [addition for addition in additions if addition[0] > oldest]
    cut = 0
    if count and _TIME.unpack_from(state)[0] <= oldest:
        cut = bisect_right(memoryview(state).cast("q"), oldest, 0, count)
        place = max(place, cut)
    parts: list[bytes] = []
    for number, column in enumerate(zip(*additions, strict=True)):
        start = number * count
        if len(column) == 1:
            packed = (_DOUBLE if number else _TIME).pack(column[0])
        else:
            packed = array("d" if number else "q", column).tobytes()
        parts += (
            state[8 * (start + cut) : 8 * (start + place)],
            packed,
            state[8 * (start + place) : 8 * (start + count)],
        )
    return b"".join(parts) if parts else state


def _add_to_last(state: bytes, count: int, additions: Sequence[Addition]) -> bytes:
    """The same tile once more: sums are exact (`SNAP`), so their order does not matter."""
    changed = bytearray(state)
    for number, column in enumerate(zip(*additions, strict=True)):
        if number:
            at = 8 * ((number + 1) * count - 1)
            _DOUBLE.pack_into(changed, at, _DOUBLE.unpack_from(changed, at)[0] + sum(column))
    return bytes(changed)


def _merge(view: WindowedView, state: bytes, additions: Sequence[Addition]) -> bytes:
    rows: Floats = np.array(additions, np.float64)
    times = np.array([addition[0] for addition in additions], np.int64)
    return extend(view, unpack_tail(view, state), times, rows[:, 1:]).pack()


def _fold_items(view: RecentItems, state: bytes | None, additions: Sequence[Addition]) -> bytes:
    newest: dict[str, int] = {item: time for time, item in (_unpack_items(state) if state else ())}
    for time, item in additions:
        newest[item] = max(time, newest.get(item, time))
    ordered = sorted(newest.items(), key=lambda pair: (-pair[1], pair[0]))
    return _pack([(time, item) for item, time in ordered[: view.length]])


def _fold_profile(state: bytes | None, time: int, additions: Sequence[Addition]) -> bytes:
    latest = max(range(len(additions)), key=lambda index: (additions[index][0], index))
    return state if state is not None and additions[latest][0] < time else _pack(additions[latest][1])
