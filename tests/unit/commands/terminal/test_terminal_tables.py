from __future__ import annotations

import io
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich import box
from rich.console import Console
from rich.table import Column, Table

from reference_system.commands.terminal.tables import print_markdown, print_table

WORDS = st.text("abcdefgh", min_size=1, max_size=12)
LINES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)


def printed(table, width):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_table(table, console=console)
    return console.file.getvalue()


def table_of(headings, rows, **more):
    table = Table(*headings, **{"box": None, "pad_edge": False, **more})
    for row in rows:
        table.add_row(*row)
    return table


def test_a_table_that_fits_is_printed_as_it_is():
    lines = printed(table_of(["day", "frauds"], [["2025-04-01", "12"]]), 80).splitlines()

    assert [line.split() for line in lines] == [["day", "frauds"], ["2025-04-01", "12"]]


def test_a_long_text_is_folded_between_words_and_its_neighbours_stay_whole():
    table = table_of(["event time", "why"], [["2025-04-10", "worse than the champion " * 6]])
    lines = printed(table, 60).splitlines()

    assert max(map(len, lines)) <= 60
    assert lines[1].startswith("2025-04-10")
    assert "…" not in "".join(lines)


def test_a_column_that_must_not_wrap_keeps_its_cells_on_one_line():
    table = table_of([Column("when", no_wrap=True), "why"], [["2025-04-10 12:00", "because of many words " * 9]])

    assert "2025-04-10 12:00" in printed(table, 50)


def test_a_table_that_cannot_be_folded_is_turned_with_a_block_for_each_row():
    headings = [f"heading{number}" for number in range(12)]
    text = printed(table_of(headings, [[f"first{n}" for n in range(12)], [f"second{n}" for n in range(12)]]), 80)

    assert text.index("first11") < text.index("second0")
    assert all(f"heading{n}" in text and f"second{n}" in text for n in range(12))
    assert "…" not in text


def test_an_empty_cell_of_a_turned_table_has_no_line():
    headings = [f"heading{number}" for number in range(12)]
    text = printed(table_of(headings, [["", *(["x"] * 11)]]), 80)

    assert "heading0" not in text
    assert "heading1 " in text


@pytest.mark.parametrize("more", [{}, {"box": box.SIMPLE_HEAD}, {"box": box.HEAVY_HEAD, "pad_edge": True}])
@pytest.mark.parametrize("width", [80, 120])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_heading_and_no_word_is_cut_at_any_width(width, more, data):
    columns = data.draw(st.integers(1, 14))
    headings = data.draw(st.lists(LINES, min_size=columns, max_size=columns))
    rows = data.draw(st.lists(st.lists(LINES, min_size=columns, max_size=columns), min_size=1, max_size=3))
    wraps = data.draw(st.lists(st.booleans(), min_size=columns, max_size=columns))
    table = table_of(
        [Column(name, no_wrap=not wrap) for name, wrap in zip(headings, wraps, strict=True)], rows, **more
    )

    text = printed(table, width)

    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    found = set(text.replace("│", " ").replace("┃", " ").split())
    assert {word for line in (*headings, *chain.from_iterable(rows)) for word in line.split()} <= found


def test_a_table_of_a_markdown_page_is_fitted_and_an_empty_first_cell_keeps_its_place():
    page = (
        "# A page\n\n| metric | champion of the day | this one |\n| --- | --- | --- |\n|  | 0.5 | 0.25 |\n\nThe end.\n"
    )
    console = Console(file=io.StringIO(), width=80)
    print_markdown(page, console=console)
    lines = console.file.getvalue().splitlines()

    head = next(line for line in lines if "champion" in line)
    row = next(line for line in lines if "0.25" in line)
    assert head.index("champion") == row.index("0.5")
    assert "The end." in console.file.getvalue()
