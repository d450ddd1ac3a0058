"""Tables that a verb writes for its reader.

In: a path from the command line and an Arrow table. Out: a Parquet file, or CSV where the name ends in `.csv`.
Invariant: a path that cannot be written is refused before the work; a file is replaced whole or not at all.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from reference_system.datasets import Manifest

_SUFFIXES = (".parquet", ".csv")


def require_writable(out: Path) -> None:
    """Refuse a file that cannot be written before the work begins.

    Raises:
        StateError: if it is a folder, or lies in none.
    """
    from reference_system.errors import StateError

    if out.is_dir() or not out.parent.is_dir():
        reason = "it is a folder" if out.is_dir() else f"there is no folder {out.parent}"
        raise StateError(f"{out} cannot be written: {reason}")


def require_table(out: Path) -> None:
    """Refuse a file whose name says neither Parquet nor CSV, or that cannot be written.

    Raises:
        StateError: with what is wrong with it.
    """
    from reference_system.errors import StateError

    if out.suffix not in _SUFFIXES:
        raise StateError(f"{out} cannot be written: its name ends neither with {' nor with '.join(_SUFFIXES)}")
    require_writable(out)


def with_own_types(table: pa.Table, manifest: Manifest | None) -> pa.Table:
    """The table with ids of the types that they had in the file, so that it can be merged with it."""
    import pyarrow as pa

    from reference_system.imports.file_shapes import FIELD_OF

    types = {} if manifest is None else manifest.id_types
    for position, name in enumerate(table.column_names):
        kind = types.get(FIELD_OF.get(name, name))
        if kind is not None:
            table = table.set_column(position, name, table[name].cast(pa.type_for_alias(kind)))
    return table


def write_table(out: Path, table: pa.Table) -> None:
    """Write the table in the format that the name says."""
    import pyarrow.parquet as pq
    from pyarrow import csv

    from reference_system.replaced_files import replacing

    with replacing(out) as draft:
        if out.suffix == ".csv":
            csv.write_csv(table, draft)
        else:
            pq.write_table(table, draft, compression="zstd")
