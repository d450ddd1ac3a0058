"""Rows that count once: a fact, however many reports there are of it, until every one of them is taken back.

In: reports of facts and what takes them back, in any order. Out: which facts stand; the bytes in which a state
remembers the reports behind its rows.
Invariant: everything follows from the set of reports, so the order in which they come and how often does not matter.

A state with reports is `memory + rows`; one without is its rows alone. The memory begins with the negative of its own
length, and rows with a time, which is positive: that tells the two apart.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """Rows that count once for each value of the field `per`: the payment that chargebacks are about.

    Every event of the rows' topic is a report of the fact. An event of the topic `taken_back_by` takes back the report
    that has its event id; it names the entity, `per` and the moment of the fact as the report does. A fact stands as
    long as a report of it does.
    """

    per: str
    taken_back_by: str


# When the fact was (µs), the value of `per`, the event id of a report, and whether this takes that report back.
ReportedFact = tuple[int, str, str, bool]
# What reports are about: a moment and a value of `per`.
Fact = tuple[int, str]

_HEADER = struct.Struct("<qq")  # the length of the memory, negative, and the moment of its oldest fact
_SIGN_BYTE, _SIGN_BIT = 7, 0x80
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(set[ReportedFact]).decode


def standing(reports: Collection[ReportedFact]) -> dict[Fact, bool]:
    """For each fact that was reported, or of which a report was taken back, whether it stands."""
    taken = {each[:3] for each in reports if each[3]}
    found: dict[Fact, bool] = {}
    for time, per, report, taken_back in reports:
        stands = not taken_back and (time, per, report) not in taken
        found[time, per] = found.get((time, per), False) or stands
    return found


def memory_of(reports: Iterable[ReportedFact]) -> bytes:
    """The bytes of some reports; none for none."""
    ordered = sorted(reports)
    if not ordered:
        return b""
    packed = _encode(ordered)
    return _HEADER.pack(-_HEADER.size - len(packed), ordered[0][0]) + packed


def header_of(state: bytes) -> tuple[int, int]:
    """How many bytes a state's memory has, and the moment of its oldest fact; (0, 0) if it remembers nothing."""
    if len(state) > _SIGN_BYTE and state[_SIGN_BYTE] & _SIGN_BIT:
        length, oldest = _HEADER.unpack_from(state)
        return -length, oldest
    return 0, 0


def rows_of(state: bytes) -> bytes:
    """A state's rows."""
    return state[header_of(state)[0] :]


def memory_in(state: bytes) -> bytes:
    """A state's memory."""
    return state[: header_of(state)[0]]


def reports_in(memory: bytes) -> set[ReportedFact]:
    """The inverse of `memory_of`."""
    return _decode(memoryview(memory)[_HEADER.size :]) if memory else set()
