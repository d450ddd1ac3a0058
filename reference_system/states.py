"""Rows of entity states as stages hand them on: written by the stream, kept by the online store, read by serving."""

from __future__ import annotations

# Entity key, event time in microseconds, sequence, packed state.
StateRow = tuple[str, int, int, bytes]
# What a read finds: the packed state and its event time in microseconds, or nothing.
StateFound = tuple[bytes | None, int | None]
# A record of a task's outbox: its number, the task that it is for, its bytes.
PostedRow = tuple[int, int, bytes]
