"""Parquet files: their columns, and their rows in chunks.

In: a path. Out: names and types; chunks of the wanted columns.
Invariant: as many rows come out as the file says it has. The times of old writers (INT96) come in microseconds, in
which every year that they can name has a number; in nanoseconds those beyond 2262 would silently become others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reference_system.dataset_import.files.chunks import Chunk
from reference_system.errors import ImportRefused

MAGIC = b"PAR1"
_CHUNK_ROWS = 65_536


def parquet_schema(path: Path) -> pa.Schema:
    """The columns of a file."""
    with _opened(path) as file:
        return file.schema_arrow


def parquet_chunks(path: Path, names: list[str], types: dict[str, pa.DataType]) -> Iterator[Chunk]:
    """The wanted columns in these types, chunk by chunk; the first row is 1."""
    with _opened(path) as file:
        rows, start = file.metadata.num_rows, 0
        for batch in file.iter_batches(batch_size=_CHUNK_ROWS, columns=names, use_threads=True):
            end = start + batch.num_rows
            columns = {name: _as(batch.column(name), types[name]) for name in names}
            yield Chunk(numbers=np.arange(start + 1, end + 1), columns=columns, share=end / max(rows, 1))
            start = end
    if start != rows:
        raise ImportRefused(f"it says that it has {rows:,} rows and gives {start:,}")


def _opened(path: Path) -> pq.ParquetFile:
    return pq.ParquetFile(path, coerce_int96_timestamp_unit="us")


def _as(cells: pa.Array, kind: pa.DataType) -> pa.Array:
    return cells if cells.type == kind else cells.cast(kind)
