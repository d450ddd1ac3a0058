"""Strict reading of TOML whose entries are tables of one kind.

In: a file, or the tables under one heading of it. Out: typed records by name.
Invariant: an unknown, missing or mistyped field is refused, and the message names its entry.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from reference_system.errors import ExerciseError

Record = TypeVar("Record", bound=msgspec.Struct)


def read_tables(path: Path) -> dict[str, object]:
    """The top level of a TOML file.

    Raises:
        ExerciseError: if the file is missing or is no TOML.
    """
    try:
        return dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ExerciseError(f"{path.name}: the file is missing") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ExerciseError(f"{path.name}: {error}") from error


def convert_tables(place: str, tables: object, kind: type[Record]) -> dict[str, Record]:
    """Each table as a record.

    Raises:
        ExerciseError: naming the entry that does not fit.
    """
    if not isinstance(tables, Mapping):
        raise ExerciseError(f"{place}: must hold one table an entry")
    records: dict[str, Record] = {}
    for name, table in tables.items():
        try:
            records[str(name)] = msgspec.convert(table, type=kind)
        except msgspec.ValidationError as error:
            raise ExerciseError(f"{place}.{name}: {error}") from error
    return records
