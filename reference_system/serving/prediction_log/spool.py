"""The spool: records that Kafka has not accepted yet, in one bounded file that survives a crash.

In: (topic, key, value), without newlines, and without tabs in topic and key. Out: the same records, once.
Invariant: what `append` returned is on the disk; a line that a crash cut is dropped, whole lines are never lost.

A line is topic, tab, key, tab, JSON. A line without a topic is of a time when there was one topic: `PREDICTIONS`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from reference_system.events import PREDICTIONS
from reference_system.use_cases import TOPICS

_TOPICS = {topic.name.encode() for topic in TOPICS}
# Topic, key and value.
SpooledRecord = tuple[bytes, bytes, bytes]
# About 40,000 records: ten minutes of a broker that is down at 60 requests a second.
MAX_BYTES = 64 * 1024 * 1024


class Spool:
    """One file of records, one a line."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        """Open the spool, and cut what a crash left of an unfinished line."""
        self._path = path
        self._max_bytes = max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)  # which a full disk allows
        self._size = whole

    def __bool__(self) -> bool:
        """Whether it holds anything."""
        return self._size > 0

    def append(self, records: Sequence[SpooledRecord]) -> int:
        """Write the records to the disk; how many found room (the first ones).

        Raises:
            OSError: if the disk takes none of them.
        """
        lines = []
        size = self._size
        for record in records:
            line = b"%b\t%b\t%b\n" % record
            if size + len(line) > self._max_bytes:
                break
            size += len(line)
            lines.append(line)
        if lines:
            try:
                self._write("ab", self._path, lines)
            except OSError:
                # A full disk takes half a line: the next record must not be glued to it.
                os.truncate(self._path, self._size)
                raise
        self._size = size
        return len(lines)

    def records(self) -> list[SpooledRecord]:
        """Everything in it, oldest first."""
        if not self:
            return []
        return [_record_of(line) for line in self._path.read_bytes().split(b"\n")[:-1]]

    def keep(self, records: Sequence[SpooledRecord]) -> None:
        """Replace the content by these records: those that are still not accepted."""
        if records:
            self._replace([b"%b\t%b\t%b\n" % record for record in records])
            self._size = self._path.stat().st_size
        else:
            self._path.unlink(missing_ok=True)
            self._size = 0

    def _replace(self, lines: Sequence[bytes]) -> None:
        beside = self._path.with_suffix(".new")
        self._write("wb", beside, lines)
        beside.replace(self._path)

    @staticmethod
    def _write(mode: Literal["ab", "wb"], path: Path, lines: Sequence[bytes]) -> None:
        with path.open(mode) as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())


def _record_of(line: bytes) -> SpooledRecord:
    first, _, rest = line.partition(b"\t")
    if first not in _TOPICS:
        return PREDICTIONS.name.encode(), first, rest
    key, _, value = rest.partition(b"\t")
    return first, key, value
