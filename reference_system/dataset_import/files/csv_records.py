"""CSV records: the bytes of a file → records that are whole, and the lines that are none.

In: bytes in UTF-8 with one kind of line end, block by block. Out: the records, each with its number, and what is wrong
with the others.
Invariant: a line that is not blank is in exactly one record, good or broken. Of a record that is not well formed the
first line is the broken one, and reading goes on with the next: a quotation mark that is never closed takes no row
with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reference_system.dataset_import.files.chunks import Broken
from reference_system.dataset_import.files.csv_grammar import Grammar, SwallowedRows

# A record that is longer than this is taken for one with a quotation mark that is never closed.
LONGEST_RECORD = 4 * 1024 * 1024
NEVER_CLOSED = "a quotation mark is never closed"
_AFTER_QUOTE = "text follows a quotation mark that closes a cell"
_SWALLOWED = "a cell in quotation marks holds lines that look like rows of their own"
_NO_TEXT = "the line is no UTF-8 (--encoding says what it is, like latin-1)"
_NUL = "the line holds a NUL"

_SHOWN_BYTES = 60


@dataclass(slots=True, kw_only=True)
class Records:
    """Whole records as they stand in the file; `numbers` has one element for each, the first row of a file is 1."""

    data: bytes
    numbers: NDArray[np.int64]
    broken: list[Broken] = field(default_factory=list)


class RecordReader:
    """Reads the records of one file, in order."""

    def __init__(self, grammar: Grammar, swallowed: SwallowedRows, *, first: int) -> None:
        """`first` is the number of the first record: 0 for a header, which is then left out."""
        self._grammar, self._swallowed = grammar, swallowed
        self._next = first
        self._rest = b""

    def read(self, blocks: Iterable[bytes]) -> Iterator[Records]:
        """The records, some for each block."""
        for block in blocks:
            data = self._rest + block
            cut = data.rfind(b"\n") + 1
            self._rest = data[cut:]
            if cut:
                yield self._split(data[:cut], last=False)
        if self._rest:
            data, self._rest = self._rest, b""
            yield self._split(data, last=True)

    def _split(self, data: bytes, *, last: bool) -> Records:
        if b'"' in data or b"\0" in data or not _is_text(data):
            return self._looked_at(data, last=last)
        while b"\n\n" in data or data.startswith(b"\n"):
            data = data.removeprefix(b"\n").replace(b"\n\n", b"\n")
        count = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
        numbers = np.arange(self._next, self._next + count)
        self._next += count
        if count and not numbers[0]:
            return Records(data=data[data.find(b"\n") + 1 :] if b"\n" in data else b"", numbers=numbers[1:])
        return Records(data=data, numbers=numbers)

    def _looked_at(self, data: bytes, *, last: bool) -> Records:
        """Record by record."""
        is_clean = b"\0" not in data and _is_text(data)
        kept: list[tuple[int, int]] = []
        numbers: list[int] = []
        broken: list[Broken] = []
        at = 0
        while at < len(data):
            for match in self._grammar.record.finditer(data, at):
                start, at = match.span()
                if match.lastgroup == "open" and not last and len(data) - start < LONGEST_RECORD:
                    self._rest = data[start:] + self._rest
                    at = len(data)
                    break
                if at - start == 1 and data[start:at] == b"\n":
                    continue
                if not self._next:
                    self._next = 1
                    continue
                torn = self._torn(match.lastgroup, data[start:at])
                reason = torn or (None if is_clean else _no_text(data[start:at]))
                if reason is None:
                    kept.append((start, at))
                    numbers.append(self._next)
                else:
                    broken.append((self._next, reason, _beginning(data[start:at])))
                self._next += 1
                if torn is not None:
                    at = data.find(b"\n", start) + 1 or len(data)
                    break
        whole = b"".join([data[start:end] for start, end in kept])
        return Records(data=whole, numbers=np.array(numbers, np.int64), broken=broken)

    def _torn(self, kind: str | None, record: bytes) -> str | None:
        """Why what the grammar found is not one record."""
        if kind is not None:
            return NEVER_CLOSED if kind == "open" else _AFTER_QUOTE
        return _SWALLOWED if self._swallowed.in_record(record) else None


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _no_text(record: bytes) -> str | None:
    if b"\0" in record:
        return _NUL
    return None if _is_text(record) else _NO_TEXT


def _beginning(record: bytes) -> str:
    return record.split(b"\n", maxsplit=1)[0][:_SHOWN_BYTES].decode(errors="replace")
