"""What pages are worth, as a person reads it in a terminal.

In: rows of the monitoring report. Out: a table that fits into 80 columns, and the line that says how to read it.
Invariant: no figure stands without its interval and its days; * is the champion.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Column, Table

from reference_system.event_time import MICROS_PER_DAY, moment_of
from reference_system.monitoring.recommendation.page_worth import PerPage, PolicyWorth
from reference_system.use_cases.recommendation.policy import BY_CHANCE

PAGE_WORTH_NOTE = (
    "A page is worth its watches: videos of which at least half was seen within a day. Beside each version stand pages"
    " drawn by chance on the same days; compare versions by what they gain on those. In brackets: 95 % intervals."
)


def worth_table(rows: Sequence[PolicyWorth], champion: str | None) -> Table:
    """One row a version; the last one is of all the pages that were drawn by chance."""
    table = Table(
        Column("version", no_wrap=True),
        Column("days", no_wrap=True),
        Column("pages", justify="right", no_wrap=True),
        Column("watches a page", no_wrap=True),
        Column("by chance", no_wrap=True),
        Column("gain", no_wrap=True),
        box=None,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for row in rows:
        name = "chance" if row.policy == BY_CHANCE else f"{row.policy}{'*' if row.policy == champion else ''}"
        cells = (per_page(row.watches), per_page(row.by_chance), per_page(row.gain, sign="+"))
        table.add_row(name, days_of(row.days), str(row.pages), *cells)
    return table


def days_of(days: Sequence[int]) -> str:
    """The first and the last day, as month and day."""
    first, last = (f"{moment_of(day * MICROS_PER_DAY):%m-%d}" for day in (days[0], days[-1]))
    return first if first == last else f"{first}–{last}"


def per_page(found: PerPage | None, *, sign: str = "") -> str:
    """A figure with its interval; a dash where too few viewers saw such pages."""
    return "–" if found is None else f"{found.value:{sign}.2f} ({interval_text(found)})"


def interval_text(found: PerPage) -> str:
    """From where to where."""
    return f"{found.low:.2f}–{found.high:.2f}" if found.low >= 0.0 else f"{found.low:.2f} to {found.high:.2f}"
