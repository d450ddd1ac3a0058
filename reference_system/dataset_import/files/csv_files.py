"""CSV files: what separates their cells, what their columns are called, and their rows in chunks.

In: a path, plain or compressed with gzip, and what its reader says about it. Out: the form of the file; chunks of the
wanted columns as text.
Invariant: nothing is guessed for a person but the separator, and that is said. Whatever encodings, ends of lines and
quotation marks do, each row is in one chunk, good or broken, and Arrow's count of rows is that of the record reader.
"""

from __future__ import annotations

import codecs
import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from reference_system.dataset_import.files.chunks import Chunk
from reference_system.dataset_import.files.csv_grammar import (
    Grammar,
    SwallowedRows,
    guessed_separator,
    separator_name,
    separator_of,
    unquoted,
)
from reference_system.dataset_import.files.csv_records import RecordReader, Records
from reference_system.errors import ImportRefused

GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 4 * 1024 * 1024
_SNIFFED = 64 * 1024
_SNIFFED_RECORDS = 100
# Of a file that begins so the encoding is known; the longer mark first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Stands for a separator of more than one byte, which Arrow does not know.
_UNIT = b"\x1f"


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvOptions:
    """What the reader of a CSV file says about it; `None` is to be found out. Without a header columns are 1, 2, 3."""

    separator: str | None = None
    has_header: bool = True
    encoding: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvForm:
    """How a file is written."""

    grammar: Grammar
    swallowed: SwallowedRows
    columns: tuple[str, ...]
    has_header: bool
    encoding: str | None  # `None` is UTF-8
    notes: tuple[str, ...]


def csv_form(path: Path, options: CsvOptions) -> CsvForm:
    """Look at the beginning of a file.

    Raises:
        ImportRefused: if it is no text in this encoding, or its header is damaged.
    """
    encoding, notes = _encoding(path, options)
    text = b""
    with opened(path) as (file, _):
        for block in _blocks(file, encoding, _SNIFFED):
            text += block
            if b"\n" in block:
                break
    text = text[: text.rfind(b"\n") + 1] or text
    try:
        text.split(b"\n", maxsplit=1)[0].decode()
    except UnicodeDecodeError as error:
        raise ImportRefused(f"{path}: the header is no UTF-8 (--encoding says what it is, like latin-1)") from error
    separator = (
        guessed_separator(text, _SNIFFED_RECORDS) if options.separator is None else separator_of(options.separator)
    )
    if options.separator is None and separator != b",":
        notes.append(f"the columns are separated by {separator_name(separator)} (guessed; --separator says otherwise)")
    grammar = Grammar(separator=separator)
    first = next(grammar.record.finditer(text.lstrip(b"\n")), None)
    if first is None:
        raise ImportRefused(f"{path} is empty")
    cells = grammar.cells(first[0]) if first.lastgroup is None else []
    if not cells:
        raise ImportRefused(f"{path}: a quotation mark in the header is never closed, or text follows it")
    if b"\0" in first[0]:
        raise ImportRefused(f"{path}: the header holds NUL: another encoding?")
    names = [unquoted(cell).strip() for cell in cells]
    records = grammar.first_records(text, _SNIFFED_RECORDS)
    return CsvForm(
        grammar=grammar,
        swallowed=SwallowedRows(grammar, records[options.has_header :], cells=len(names)),
        columns=tuple(names if options.has_header else map(str, range(1, len(names) + 1))),
        has_header=options.has_header,
        encoding=encoding,
        notes=tuple(notes),
    )


def csv_chunks(path: Path, form: CsvForm, names: list[str]) -> Iterator[Chunk]:
    """The wanted columns, chunk by chunk; row 1 is the first after the header."""
    size = max(path.stat().st_size, 1)
    reader = RecordReader(form.grammar, form.swallowed, first=0 if form.has_header else 1)
    with opened(path) as (file, position):
        for records in reader.read(_blocks(file, form.encoding, _BLOCK)):
            yield _chunk(records, form, names, share=min(position() / size, 1.0))


@contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, Callable[[], int]]]:
    """The file's bytes, unpacked if they are compressed with gzip, and how many bytes of the file have been read."""
    with path.open("rb") as raw:
        is_packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        yield cast("BinaryIO", gzip.GzipFile(fileobj=raw, mode="rb")) if is_packed else raw, raw.tell


def _encoding(path: Path, options: CsvOptions) -> tuple[str | None, list[str]]:
    """The encoding, `None` for UTF-8, and what was assumed."""
    if options.encoding is not None:
        try:
            found = codecs.lookup(options.encoding)
            "".encode(found.name)  # those that are no encodings of text refuse this
        except (LookupError, ValueError) as error:
            raise ImportRefused(f"--encoding {options.encoding!r} is no encoding of text, like latin-1") from error
        return (None if found.name == "utf-8" else found.name), []
    with opened(path) as (file, _):
        beginning = file.read(_SNIFFED)
    found_mark = next((encoding for mark, encoding in _MARKS if beginning.startswith(mark)), None)
    if found_mark in ("utf-16", "utf-32"):
        return found_mark, [f"the file was read as {found_mark.upper()}, as its first bytes say"]
    if b"\0" in beginning[:4096]:
        raise ImportRefused(
            f"{path} is neither Parquet (it would begin with PAR1) nor CSV: it holds NUL "
            "(UTF-16 without its mark? --encoding utf-16-le)"
        )
    return None, []


def _blocks(file: BinaryIO, encoding: str | None, size: int) -> Iterator[bytes]:
    """The file as UTF-8 with one kind of line end; what cannot be decoded stays as bytes that are no UTF-8."""
    decoder = None if encoding is None else codecs.getincrementaldecoder(encoding)("surrogateescape")
    held, is_first, raw = b"", True, b"-"
    while raw:
        raw = file.read(size)
        block = raw if decoder is None else decoder.decode(raw, not raw).encode("utf-8", "surrogateescape")
        if is_first:
            block = block.removeprefix(codecs.BOM_UTF8)
        block, held, is_first = held + block, b"", False
        if raw and block.endswith(b"\r"):
            block, held = block[:-1], b"\r"
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if block:
            yield block


def _chunk(records: Records, form: CsvForm, names: list[str], *, share: float) -> Chunk:
    """The cells of whole records; those with another number of cells than the header are broken."""
    lines: list[tuple[int, int, str]] = []

    def note(row: csv.InvalidRow) -> Literal["skip"]:
        lines.append((row.number - 1, row.actual_columns, row.text or ""))
        return "skip"

    columns = _parsed(records.data, form, names, note)
    numbers = np.delete(records.numbers, [place for place, _, _ in lines])
    expected = len(form.columns)
    broken = [
        (int(records.numbers[place]), f"a line has {found} cells where the header has {expected}", text)
        for place, found, text in lines
    ]
    if any(len(cells) != len(numbers) for cells in columns.values()):
        raise ImportRefused("its rows cannot be told apart: the two ways to count them differ")
    return Chunk(numbers=numbers, columns=columns, share=share, broken=tuple(sorted([*records.broken, *broken])))


def _parsed(
    data: bytes, form: CsvForm, names: list[str], note: Callable[[csv.InvalidRow], Literal["skip"]]
) -> dict[str, pa.Array]:
    if not data:
        return {name: pa.array([], pa.string()) for name in names}
    separator = form.grammar.separator
    is_wide = len(separator) > 1
    if is_wide:
        if _UNIT in data:
            raise ImportRefused("it holds the character U+001F beside a separator of several signs")
        data = data.replace(separator, _UNIT)
    places = {name: str(form.columns.index(name)) for name in names}
    table = csv.read_csv(
        pa.BufferReader(data),
        # One thread: Arrow numbers the lines only then.
        read_options=csv.ReadOptions(
            column_names=[str(place) for place in range(len(form.columns))],
            use_threads=False,
            block_size=len(data) + 1,
        ),
        parse_options=csv.ParseOptions(
            delimiter=(_UNIT if is_wide else separator).decode(), newlines_in_values=True, invalid_row_handler=note
        ),
        convert_options=csv.ConvertOptions(
            include_columns=list(places.values()),
            column_types=dict.fromkeys(places.values(), pa.string()),
            strings_can_be_null=True,
            null_values=[""],
            quoted_strings_can_be_null=False,
        ),
    )
    found = {name: table[place].combine_chunks() for name, place in places.items()}
    if is_wide:
        found = {
            name: pc.replace_substring(cells, _UNIT.decode(), separator.decode()) for name, cells in found.items()
        }
    return found
