"""Source files: Parquet or CSV, told apart by content, or a folder of parts; read in chunks.

In: a path. Out: column names and types; chunks of the wanted columns with row numbers (1 is the first after the
header; those of a folder go on from part to part).
Invariant: memory does not grow with the file; CSV cells stay text, so that nothing is guessed for a person.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from zlib import error as ZlibError  # noqa: N812 - an exception

import pyarrow as pa

from reference_system.dataset_import.files.chunks import Chunk
from reference_system.dataset_import.files.csv_files import CsvForm, CsvOptions, csv_chunks, csv_form, opened
from reference_system.dataset_import.files.parquet_files import MAGIC, parquet_chunks, parquet_schema
from reference_system.errors import ImportRefused

_HIDDEN = (".", "_")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One file: its columns, and the types of Parquet or the form of CSV."""

    path: Path
    columns: tuple[str, ...]
    types: dict[str, pa.DataType] = field(default_factory=dict)
    form: CsvForm | None = None


@dataclass(slots=True, kw_only=True)
class SourceFile:
    """A file or a folder of parts that can be read. `types` are those of Parquet; CSV is text."""

    path: Path
    parts: tuple[_Part, ...]
    columns: tuple[str, ...]
    types: dict[str, pa.DataType]
    notes: tuple[str, ...] = ()
    _starts: list[int] = field(default_factory=list)  # how many rows come before each part that has been begun

    @property
    def kind(self) -> str:
        """`parquet` or `csv`."""
        return "parquet" if self.parts[0].form is None else "csv"

    @property
    def size(self) -> int:
        """How many bytes it takes on the disk."""
        return sum(part.path.stat().st_size for part in self.parts)

    def chunks(self, wanted: Sequence[str]) -> Iterator[Chunk]:
        """The wanted columns, chunk by chunk.

        Raises:
            ImportRefused: if the file is damaged.
        """
        names = list(dict.fromkeys(wanted))
        self._refuse_missing(names)
        self._starts, rows = [], 0
        for number, part in enumerate(self.parts):
            before = rows
            self._starts.append(before)
            with _reading(part.path):
                for chunk in self._of_part(part, names):
                    rows += chunk.rows
                    yield Chunk(
                        numbers=chunk.numbers + before,
                        columns=chunk.columns,
                        share=(number + chunk.share) / len(self.parts),
                        broken=tuple((row + before, reason, line) for row, reason, line in chunk.broken),
                    )

    def named(self, row: int) -> str:
        """A row as a person finds it: `row 7`, or `row 7 of part-2.parquet`."""
        if len(self.parts) == 1:
            return f"row {row}"
        number = bisect_left(self._starts, row) - 1
        return f"row {row - self._starts[number]} of {self.parts[number].path.relative_to(self.path)}"

    def _of_part(self, part: _Part, names: list[str]) -> Iterator[Chunk]:
        if part.form is not None:
            return csv_chunks(part.path, part.form, names)
        return parquet_chunks(part.path, names, self.types)

    def _refuse_missing(self, names: list[str]) -> None:
        for part in self.parts:
            missing = [name for name in names if name not in part.columns]
            if missing:
                raise ImportRefused(f"{part.path} has no column {missing[0]!r}, which {self.parts[0].path.name} has")


def open_source(path: Path, options: CsvOptions | None = None) -> SourceFile:
    """The file's or the folder's kind and columns.

    Raises:
        ImportRefused: if there is no such file, or it is neither Parquet nor CSV, or damaged, or the parts of a folder
            differ.
    """
    if path.is_dir():
        paths = _part_paths(path)
    elif path.is_file():
        paths = [path]
    else:
        raise ImportRefused(f"there is no file {path}")
    parts = tuple(_opened_part(each, options or CsvOptions()) for each in paths)
    return SourceFile(
        path=path,
        parts=parts,
        columns=tuple(dict.fromkeys(name for part in parts for name in part.columns))
        if len(parts) > 1
        else parts[0].columns,
        types=_common_types(parts),
        notes=_notes(path, parts),
    )


def digest_of(path: Path) -> str:
    """The SHA-256 of the file's bytes; of a folder that of its parts' names and digests."""
    if path.is_dir():
        lines = [f"{digest_of(part)} {part.relative_to(path)}\n" for part in _part_paths(path)]
        return sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        found = sha256()
        while block := file.read(1024 * 1024):
            found.update(block)
    return found.hexdigest()


def _part_paths(folder: Path) -> list[Path]:
    """The files of a folder in the order of their names; what begins with `.` or `_` is a note of who wrote them."""
    inside = (path for path in folder.rglob("*") if path.is_file())
    found = sorted(path for path in inside if not _is_hidden(path.relative_to(folder)))
    if not found:
        raise ImportRefused(f"{folder} is a folder without a file to import")
    return found


def _is_hidden(path: Path) -> bool:
    return any(name.startswith(_HIDDEN) for name in path.parts)


def _opened_part(path: Path, options: CsvOptions) -> _Part:
    with _reading(path):
        with opened(path) as (file, _):
            beginning = file.read(len(MAGIC))
        with path.open("rb") as file:
            is_packed = file.read(len(MAGIC)) != beginning
        if not beginning:
            raise ImportRefused(f"{path} is empty")
        if beginning == MAGIC and not is_packed:
            schema = parquet_schema(path)
            names = tuple(schema.names)
            return _Part(path=path, columns=names, types=dict(zip(names, schema.types, strict=True)))
        if beginning == MAGIC:
            raise ImportRefused(f"{path} is Parquet inside gzip: unpack it first (gzip -d)")
        if path.suffix.lower() == ".parquet":
            raise ImportRefused(f"{path} is neither Parquet (it would begin with PAR1) nor named like CSV")
        form = csv_form(path, options)
        return _Part(path=path, columns=form.columns, form=form)


def _common_types(parts: Sequence[_Part]) -> dict[str, pa.DataType]:
    """The types that hold the cells of every part: of two kinds of integer the larger, of nulls and others the others.

    Raises:
        ImportRefused: if there is none, or some parts are Parquet and others CSV.
    """
    first = parts[0]
    found = dict(first.types)
    for part in parts[1:]:
        if (part.form is None) != (first.form is None):
            raise ImportRefused(f"{part.path} and {first.path} are of two kinds: one is Parquet, the other CSV")
        for name, kind in part.types.items():
            try:
                fields = [pa.schema([(name, one)]) for one in (found.get(name, kind), kind)]
                found[name] = pa.unify_schemas(fields, promote_options="permissive").field(0).type
            except pa.ArrowException as error:
                raise ImportRefused(
                    f"{part.path}: the column {name!r} holds {kind}, in the parts before it {found[name]}"
                ) from error
    return found


def _notes(path: Path, parts: Sequence[_Part]) -> tuple[str, ...]:
    found = list(dict.fromkeys(note for part in parts if part.form is not None for note in part.form.notes))
    if path.is_dir():
        found.append(f"{len(parts)} files of the folder were read, in the order of their names")
    return tuple(found)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    # Arrow's errors are of both kinds, and so are those of a disk; a compressed file has its own.
    except (pa.ArrowException, OSError, EOFError, ZlibError, UnicodeError) as error:
        what = str(error).splitlines()[0]
        raise ImportRefused(f"{path} cannot be read (truncated or damaged?): {what}") from error
