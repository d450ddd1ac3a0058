"""Source files: Parquet or CSV, told apart by content, read in chunks.

In: a path. Out: column names and types; chunks of the wanted columns with row numbers (1 is the first after the
header).
Invariant: memory does not grow with the file; CSV cells stay text, so that nothing is guessed for a person.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import csv

from reference_system.errors import ImportRefused

_PARQUET_MAGIC = b"PAR1"
_CHUNK_ROWS = 65_536
_CSV_BLOCK = 4 * 1024 * 1024
_SNIFFED = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows: their numbers, the wanted columns, and how much of the file has been read (0 to 1).

    `broken` are CSV lines that have another number of cells than the header: (row number, cells, cells expected).
    """

    numbers: NDArray[np.int64]
    columns: dict[str, pa.Array]
    share: float
    broken: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file that can be read."""

    path: Path
    kind: Literal["parquet", "csv"]
    columns: tuple[str, ...]
    types: dict[str, pa.DataType] = field(default_factory=dict)  # of Parquet; CSV is text

    def chunks(self, wanted: Sequence[str]) -> Iterator[Chunk]:
        """The wanted columns, chunk by chunk.

        Raises:
            ImportRefused: if the file is damaged.
        """
        names = list(dict.fromkeys(wanted))
        with _reading(self.path):
            yield from _parquet_chunks(self.path, names) if self.kind == "parquet" else _csv_chunks(self.path, names)


def open_source(path: Path) -> SourceFile:
    """The file's kind and columns.

    Raises:
        ImportRefused: if there is no such file, or it is neither Parquet nor CSV, or damaged.
    """
    if not path.is_file():
        raise ImportRefused(f"{path} is a folder; import one file" if path.is_dir() else f"there is no file {path}")
    with _reading(path), path.open("rb") as file:
        beginning = file.read(_SNIFFED)
    if not beginning:
        raise ImportRefused(f"{path} is empty")
    with _reading(path):
        if beginning.startswith(_PARQUET_MAGIC):
            schema = pq.read_schema(path)
            return SourceFile(
                path=path,
                kind="parquet",
                columns=tuple(schema.names),
                types=dict(zip(schema.names, schema.types, strict=True)),
            )
        if b"\0" in beginning or path.suffix == ".parquet" or not _is_text(beginning):
            raise ImportRefused(f"{path} is neither Parquet (it would begin with PAR1) nor CSV in UTF-8")
        with path.open("rb") as file:
            return SourceFile(path=path, kind="csv", columns=tuple(_open_csv(file, None, []).schema.names))


def digest_of(path: Path) -> str:
    """The SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        found = sha256()
        while block := file.read(1024 * 1024):
            found.update(block)
    return found.hexdigest()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    # Arrow's errors are of both kinds, and so are those of a disk.
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0]
        raise ImportRefused(f"{path} cannot be read (truncated or damaged?): {what}") from error


def _is_text(beginning: bytes) -> bool:
    try:
        beginning.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut at the end of what was read.
        return error.start >= len(beginning) - 3 and len(beginning) == _SNIFFED
    return True


def _parquet_chunks(path: Path, names: list[str]) -> Iterator[Chunk]:
    with pq.ParquetFile(path) as file:
        rows, start = max(file.metadata.num_rows, 1), 0
        for batch in file.iter_batches(batch_size=_CHUNK_ROWS, columns=names, use_threads=True):
            end = start + batch.num_rows
            columns = {name: batch.column(name) for name in names}
            yield Chunk(numbers=np.arange(start + 1, end + 1), columns=columns, share=end / rows)
            start = end


def _csv_chunks(path: Path, names: list[str]) -> Iterator[Chunk]:
    size, start = max(path.stat().st_size, 1), 1
    broken: list[tuple[int, int, int]] = []
    with path.open("rb") as file:
        told = 0
        for batch in _open_csv(file, names, broken):
            # Whatever stands before the last of these rows has been parsed, so its broken lines are known.
            skipped = np.array([number for number, _, _ in broken[told:]], np.int64)
            candidates = np.arange(start, start + batch.num_rows + len(skipped))
            numbers = np.setdiff1d(candidates, skipped)[: batch.num_rows]
            last = int(numbers[-1]) if len(numbers) else start - 1
            new = tuple(line for line in broken[told:] if line[0] <= last)
            told, start = told + len(new), last + 1
            columns = {name: batch.column(name) for name in names}
            yield Chunk(numbers=numbers, columns=columns, share=min(file.tell() / size, 1.0), broken=new)
        if told < len(broken):
            nothing = {name: pa.array([], pa.string()) for name in names}
            yield Chunk(numbers=np.empty(0, np.int64), columns=nothing, share=1.0, broken=tuple(broken[told:]))


def _open_csv(file: BinaryIO, names: list[str] | None, broken: list[tuple[int, int, int]]) -> csv.CSVStreamingReader:
    def note(row: csv.InvalidRow) -> Literal["skip"]:
        # The header is line 1 to Arrow.
        broken.append((row.number - 1, row.actual_columns, row.expected_columns))
        return "skip"

    return csv.open_csv(
        file,
        # One thread: Arrow numbers the lines only then.
        read_options=csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK),
        parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
        convert_options=csv.ConvertOptions(
            include_columns=names or [],
            column_types={name: pa.string() for name in names or []},
            strings_can_be_null=True,
            null_values=[""],
            quoted_strings_can_be_null=False,
        ),
    )
