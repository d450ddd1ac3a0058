"""`sources.toml`: the publications an exercise leans on, each with the words it leans on.

In: the file's text. Out: sources by key.
Invariant: a source carries its quotation, so that a dead link costs the reader nothing.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from reference_system.workbook.toml_tables import convert_tables, read_tables


class Publication(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One publication and the passage that is used."""

    quote: str  # the exact words or figures that the exercise uses
    publication: str
    author: str
    address: str
    date: str  # as printed: a year may be all there is
    verified: bool  # the first-party text was read, and says so


def load_sources(path: Path) -> dict[str, Publication]:
    """Read `sources.toml` strictly.

    Raises:
        ExerciseError: if it is no TOML or a source lacks a field, or has one that is unknown.
    """
    return convert_tables(path.name, read_tables(path), Publication)
