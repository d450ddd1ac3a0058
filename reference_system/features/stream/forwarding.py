"""Forwarding: rows of entities that another task owns.

A topic is partitioned by its own key; a view keyed by something else belongs to other tasks. The task that read the
event puts such rows into its outbox, in the transaction that moves its offsets; from there they go through the
repartition topic to the task that owns the entity.

In: additions of one batch. Out: one record for each other task, as MessagePack.
Invariant: a row carries the offset of the event it came from. A task remembers for each source how far it has taken
rows, so a record that is sent again, cut differently or by a state that was rebuilt, adds nothing twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

# From where rows came: (the task that read the event, the event's topic).
Channel = tuple[int, str]


class ForwardedRows(msgspec.Struct, array_like=True, kw_only=True):
    """Rows of one view from events of one topic; the lists are parallel."""

    view: str
    topic: str
    keys: list[str] = []
    offsets: list[int] = []
    known: list[int] = []
    additions: list[Any] = []


class Forwarded(msgspec.Struct, array_like=True, kw_only=True):
    """What one batch of a task adds to the states of another task.

    `reached` says for each topic up to which offset (exclusive) the source had read when it sent this.
    """

    source: int
    reached: dict[str, int]
    rows: list[ForwardedRows]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Forwarded).decode


def encode_forwarded(record: Forwarded) -> bytes:
    """The record's bytes."""
    return _encode(record)


def decode_forwarded(data: bytes) -> Forwarded:
    """The inverse of `encode_forwarded`.

    Raises:
        msgspec.MsgspecError: if the bytes are no such record. Nobody but ingestion writes to this topic, so that is
            a reason to stop and not to skip.
    """
    return _decode(data)


def untaken(
    record: Forwarded, rows: ForwardedRows, taken: dict[Channel, int]
) -> Iterable[tuple[str, int, tuple[Any, ...]]]:
    """The rows that were not taken yet: (key, known, addition)."""
    start = taken.get((record.source, rows.topic), 0)
    everything = zip(rows.keys, rows.known, map(tuple, rows.additions), strict=True)
    # Not the first: a view that takes a topic twice has the rows of each reading one after the other.
    if not rows.offsets or min(rows.offsets) >= start:
        return everything
    return [row for row, offset in zip(everything, rows.offsets, strict=True) if offset >= start]
