"""Tables that a verb writes for its reader.

In: a path from the command line and an Arrow table. Out: a file in the format that its name says: `.parquet`, `.csv`,
`.tsv`, and the latter two with `.gz` behind, in small letters or capitals.
Invariant: a path that cannot be written, or whose name says no format, is refused before the work; a file is replaced
whole or not at all.
"""

from __future__ import annotations

import re
from gzip import GzipFile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

    from reference_system.lake.datasets import DatasetManifest

# What stands between the columns, by the end of the name; nothing in Parquet.
_SEPARATORS = {".parquet": None, ".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}


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
    """Refuse a file whose name says no format, or that cannot be written.

    Raises:
        StateError: with what is wrong with it.
    """
    _format_of(out)
    require_writable(out)


def with_own_types(table: pa.Table, manifest: DatasetManifest | None) -> pa.Table:
    """The table with ids of the types that they had in the file, so that it can be merged with it."""
    from reference_system.dataset_import.file_shapes import FIELD_OF

    types = {} if manifest is None else manifest.id_types
    for position, name in enumerate(table.column_names):
        kind = types.get(FIELD_OF.get(name, name))
        if kind is not None:
            table = table.set_column(position, name, table[name].cast(_type_named(kind)))
    return table


def write_table(out: Path, table: pa.Table) -> None:
    """Write the table in the format that the name says."""
    import pyarrow.parquet as pq
    from pyarrow import csv

    from reference_system.replaced_files import replacing

    ending = _format_of(out)
    separator = _SEPARATORS[ending]
    with replacing(out) as draft:
        if separator is None:
            pq.write_table(table, draft, compression="zstd")
            return
        with draft.open("wb") as raw, _packed(raw) if ending.endswith(".gz") else raw as file:
            csv.write_csv(table, file, csv.WriteOptions(delimiter=separator))


def _format_of(out: Path) -> str:
    from reference_system.errors import StateError

    found = next((ending for ending in _SEPARATORS if out.name.lower().endswith(ending)), None)
    if found is None:
        raise StateError(f"{out} cannot be written: its name ends neither with {' nor with '.join(_SEPARATORS)}")
    return found


def _packed(raw: BinaryIO) -> GzipFile:
    """Compressed; without a time in it, so that the same table gives the same bytes."""
    return GzipFile(filename="", fileobj=raw, mode="wb", mtime=0)


def _type_named(name: str) -> pa.DataType:
    """The type whose name Arrow gives; it reads back all but those with numbers in them."""
    import pyarrow as pa

    found = re.fullmatch(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)|fixed_size_binary\[(\d+)\]", name)
    if found is None:
        return pa.type_for_alias(name)
    if found[4]:
        return pa.binary(int(found[4]))
    decimal = {"32": pa.decimal32, "64": pa.decimal64, "128": pa.decimal128, "256": pa.decimal256}[found[1]]
    return decimal(int(found[2]), int(found[3]))
