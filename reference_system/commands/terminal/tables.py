"""Tables that a person reads in a terminal, however narrow it is.

In: a rich table. Out: the same cells on the console, within its width.
Invariant: no heading and no word is cut. A table that fits is printed as it is; one that fits when its cells are
folded between words is folded; any other is turned: a block of lines for each row, `heading  cell`.

A column that says `no_wrap` is folded nowhere: each of its cells counts as one word.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import groupby

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.markdown import Markdown
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

# Where there is no terminal the width is a guess; a file is searched and scrolled, so it is a wide one.
_FILE_WIDTH = 150
_RULE = "─"


def reader_console() -> Console:
    """A console as wide as the reader's terminal, or `COLUMNS`, or a file's line; texts are lines of any length."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, soft_wrap=True, width=None if known else _FILE_WIDTH)


def print_table(table: Table, *, console: Console | None = None) -> None:
    """Print a table so that every heading and every word of it can be read."""
    console = console or reader_console()
    console.print(fitted(table, console), soft_wrap=False)


class Fitted:
    """A table that is fitted where it is printed, for groups of tables and texts."""

    def __init__(self, table: Table) -> None:
        """The table as it would be on a terminal wide enough."""
        self._table = table

    def __rich_console__(self, console: Console, _: ConsoleOptions) -> Iterator[RenderableType]:
        """What rich prints."""
        yield fitted(self._table, console)


def print_markdown(text: str, *, console: Console) -> None:
    """Print a page, its tables fitted; a row of a table is a line that begins with `|`."""
    for is_table, lines in groupby(text.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in lines)
            table = Table(*map(escape, head), box=None, pad_edge=False, show_header=any(head))
            for row in rows:
                table.add_row(*map(escape, row))
            print_table(table, console=console)
        else:
            console.print(Markdown("\n".join(lines)), soft_wrap=False)


def fitted(table: Table, console: Console) -> RenderableType:
    """The table, folded or turned as the console's width asks for."""
    natural = [_measured(console, column).maximum for column in table.columns]
    least = [_measured(console, column).minimum for column in table.columns]
    room = console.width - _frame(table)
    if sum(natural) <= room:
        return table
    if sum(least) > room:
        return _turned(table, console)
    for column, width in zip(table.columns, _shared(least, natural, room), strict=True):
        column.width = width
        column.no_wrap = False
    return table


def _measured(console: Console, column: Column) -> Measurement:
    """The widths of a column's longest word and of its longest line."""
    cells = [_text(console, column.header), *(_text(console, cell) for cell in column.cells)]
    found = [Measurement.get(console, console.options, cell) for cell in cells]
    widest = max(each.maximum for each in found)
    whole = [each.maximum for each in found[1:]] if column.no_wrap else [each.minimum for each in found]
    return Measurement(max([found[0].minimum, *whole]), widest)


def _text(console: Console, cell: RenderableType) -> Text:
    return cell if isinstance(cell, Text) else console.render_str(str(cell))


def _frame(table: Table) -> int:
    """What the table's own lines and gaps take."""
    left, right = table.padding[3], table.padding[1]
    inner = (max(left, right) if table.collapse_padding else left + right) * len(table.columns)
    edges = 0 if table.box is None else len(table.columns) - 1 + 2 * table.show_edge
    return inner - (0 if table.pad_edge else left + right) + edges


def _shared(least: list[int], natural: list[int], room: int) -> list[int]:
    """Widths between least and natural that fill the room: each column gets the same share of what it lacks."""
    lacks = [wide - narrow for wide, narrow in zip(natural, least, strict=True)]
    spare = room - sum(least)
    return [narrow + lack * spare // max(sum(lacks), 1) for narrow, lack in zip(least, lacks, strict=True)]


def _turned(table: Table, console: Console) -> RenderableType:
    """A block for each row; empty cells are left out."""
    heads = [_text(console, column.header) for column in table.columns]
    names = [" ".join(head.plain.replace("-\n", "").split()) for head in heads]
    width = min(max(map(len, names)), console.width // 2)
    rows = zip(*(column.cells for column in table.columns), strict=True)
    blocks: list[RenderableType] = []
    for row in rows:
        block = Table(
            Column(width=width, style="dim"), Column(overflow="fold"), box=None, show_header=False, pad_edge=False
        )
        for name, cell in zip(names, row, strict=True):
            if _text(console, cell).plain.strip():
                block.add_row(name, cell)
        blocks += [block, Text(_RULE * min(console.width, 40), style="dim")]
    return Group(*blocks[:-1])
