"""The grammar of CSV: what a record is, for one separator.

In: bytes in UTF-8 with one kind of line end. Out: records and their cells; the separator that a file seems to have.
Invariant: a cell that begins with a quotation mark ends with one, and the separator or the end of the line follows. In
any other cell a quotation mark is a character like others, as a foot or an inch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from reference_system.errors import ImportRefused

# What tables are separated by, the usual one first.
SEPARATORS = (",", ";", "\t", "|", "::")
_NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons"}
_LONGEST = 4
# Groups are atomic and none has a possessive quantifier: before Python 3.11.5 that of a group with a choice in it
# matches too little.
_QUOTED = rb'"[^"]*+(?>(?:""[^"]*+)*)"'
_NEVER_CLOSED = rb'"[^"]*+(?>(?:""[^"]*+)*)\Z'
_NUMBER = re.compile(rb"\s*[+-]?[0-9][0-9., ]*([eE][+-]?[0-9]+)?\s*")
# So many cells a line of prose seldom has by chance.
_MANY_CELLS = 4
_DATE = re.compile(rb"\s*[0-9]{1,4}[-./][0-9]{1,2}[-./][0-9]{1,4}.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar:
    """CSV with one separator; `record` matches at every place before the end, what no record is as `open` or `bad`."""

    separator: bytes
    record: re.Pattern[bytes] = field(init=False)
    _cell: re.Pattern[bytes] = field(init=False)

    def __post_init__(self) -> None:
        """Compile the patterns. They never go back, so a long file takes no longer than its length."""
        separator = re.escape(self.separator)
        other = rb"[^%b\n]" % separator if len(self.separator) == 1 else rb"(?:(?!%b)[^\n])" % separator
        cell = rb'(?>%b|(?!")%b+|)' % (_QUOTED, other)
        whole = rb"%b(?>(?:%b%b)*)(?:\n|\Z)" % (cell, separator, cell)
        opened = rb"(?P<open>(?>(?:%b%b)*)%b)" % (cell, separator, _NEVER_CLOSED)
        bad = rb"(?P<bad>[^\n]*+(?:\n|\Z))"
        object.__setattr__(self, "record", re.compile(rb"(?!\Z)(?:%b|%b|%b)" % (whole, opened, bad)))
        object.__setattr__(self, "_cell", re.compile(rb"(%b)(%b|\n?\Z)" % (cell, separator)))

    def cells(self, record: bytes) -> list[bytes]:
        """The cells of a record as they are written; none if it is not well formed."""
        found, at = self._cells(record)
        return found if at < 0 else []

    def cells_of_line(self, line: bytes) -> list[bytes]:
        """The cells of a line alone: where a cell in quotation marks goes on in the next, the mark is a character."""
        found, at = self._cells(line)
        return found if at < 0 else [*found, *line[at:].split(self.separator)]

    def _cells(self, record: bytes) -> tuple[list[bytes], int]:
        """The cells, and where the first begins that is not well formed; -1 if all are."""
        if b'"' not in record:
            return record.removesuffix(b"\n").split(self.separator), -1
        found, at = [], 0
        while match := self._cell.match(record, at):
            found.append(match[1])
            at = match.end()
            if match[2] != self.separator:
                return found, -1
        return found, at

    def first_records(self, text: bytes, most: int) -> list[bytes]:
        """The well-formed records at the beginning of a text, without blank lines."""
        found: list[bytes] = []
        for match in self.record.finditer(text):
            if match.lastgroup is None and match[0] != b"\n":
                found.append(match[0])
            if len(found) == most:
                break
        return found


def unquoted(cell: bytes) -> str:
    """What a cell says."""
    if cell.startswith(b'"'):
        cell = cell[1:-1].replace(b'""', b'"')
    return cell.decode()


def separator_of(text: str) -> bytes:
    """The separator that the option names.

    Raises:
        ImportRefused: if nothing can be separated by it.
    """
    named = {"\\t": "\t", "tab": "\t"}.get(text, text)
    if not 0 < len(named) <= _LONGEST or any(one in named for one in '"\n\r') or named.isalnum():
        raise ImportRefused(f"--separator {text!r} separates nothing: one to {_LONGEST} signs, like ';', '::' or tab")
    return named.encode()


def guessed_separator(text: bytes, most: int) -> bytes:
    """The separator that the beginning of a file seems to have; a comma where nothing else is plain."""
    best = (0.0, 0, SEPARATORS[0].encode())
    for separator in SEPARATORS:
        grammar = Grammar(separator=separator.encode())
        counts = [len(grammar.cells(record)) for record in grammar.first_records(text, most)]
        if counts and counts[0] > 1:
            alike = sum(count == counts[0] for count in counts) / len(counts)
            best = max(best, (alike, counts[0], grammar.separator), key=lambda one: one[:2])
    return best[2]


def separator_name(separator: bytes) -> str:
    """The separator in words."""
    text = separator.decode()
    return _NAMES.get(text, repr(text))


class SwallowedRows:
    """Tells whether lines within a cell are rows that a quotation mark has swallowed."""

    def __init__(self, grammar: Grammar, records: Sequence[bytes], *, cells: int) -> None:
        """Look at some records of the file: which columns hold numbers and dates only."""
        self._grammar, self._cells = grammar, cells
        rows = [found for found in map(grammar.cells, records) if len(found) == cells]
        self._kinds = [
            (place, kind, len(held) == len(rows))
            for place in range(cells)
            for kind in (_NUMBER, _DATE)
            if (held := [text for row in rows if (text := row[place].strip(b'"'))]) and all(map(kind.fullmatch, held))
        ]

    def in_record(self, record: bytes) -> bool:
        """Whether the lines of a record look like rows: the first, and others of them.

        A cell of several lines does not: where it is not the last of its row, the first line has too few cells, and
        where it is not the first, the last line has. Where columns are all text, every line must look like a row.
        """
        first, *others = record.removesuffix(b"\n").split(b"\n")
        if not others or not self._is_like_a_row(first):
            return False
        if self._kinds:
            return any(map(self._is_like_a_row, others))
        return self._cells >= _MANY_CELLS and all(map(self._is_like_a_row, others))

    def _is_like_a_row(self, line: bytes) -> bool:
        """Whether it has as many cells as the header, and numbers and dates where the file has them."""
        cells = self._grammar.cells_of_line(line)
        if self._cells == 1 or len(cells) != self._cells:
            return False
        found = ((cells[place].strip(b'"'), kind, is_always) for place, kind, is_always in self._kinds)
        return all(kind.fullmatch(text) if text else not is_always for text, kind, is_always in found)
