"""Files are told apart by content; row numbers are the reader's; what is damaged is one clear refusal."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_system.dataset_import.files import csv_files, csv_records
from reference_system.dataset_import.files.csv_files import CsvOptions
from reference_system.dataset_import.files.csv_grammar import Grammar, SwallowedRows
from reference_system.dataset_import.files.csv_records import RecordReader
from reference_system.dataset_import.files.source_files import digest_of, open_source
from reference_system.errors import ImportRefused


@pytest.fixture
def frame():
    return pd.DataFrame({"a": range(1_000), "b": [f"text {n}" for n in range(1_000)], "c": 0.5})


def read(path, names):
    """Row number → cells, and the broken lines."""
    rows, broken = {}, []
    for chunk in open_source(path).chunks(names):
        cells = zip(*(chunk.columns[name].to_pylist() for name in names), strict=True)
        rows.update(zip(chunk.numbers.tolist(), cells, strict=True))
        broken.extend(chunk.broken)
    return rows, broken


def test_parquet_is_recognised_whatever_its_name(tmp_path, frame):
    path = tmp_path / "data.bin"
    frame.to_parquet(path)
    source = open_source(path)

    assert (source.kind, source.columns) == ("parquet", ("a", "b", "c"))
    assert str(source.types["a"]) == "int64"
    rows, _ = read(path, ["b", "a"])
    assert (len(rows), rows[1], rows[1_000]) == (1_000, ("text 0", 0), ("text 999", 999))


def test_csv_cells_are_text_and_an_empty_one_is_missing(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('﻿a,b,c\n1,"x, y",\n2,"two\nlines",3\n', encoding="utf-8")

    assert open_source(path).columns == ("a", "b", "c")
    assert read(path, ["a", "b", "c"]) == ({1: ("1", "x, y", None), 2: ("2", "two\nlines", "3")}, [])


def test_rows_after_a_broken_line_keep_their_own_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK", 64)
    lines = [f"{n},{n * n}" for n in range(1, 201)]
    for number in (2, 3, 77, 200):
        lines[number - 1] += ",more"
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["a,b", *lines]) + "\n", encoding="utf-8")

    rows, broken = read(path, ["a"])

    reason = "a line has 3 cells where the header has 2"
    wanted = [(number, reason, f"{number},{number * number},more") for number in (2, 3, 77, 200)]
    assert broken == wanted
    assert rows == {n: (str(n),) for n in range(1, 200) if n not in (2, 3, 77)}


def test_a_file_with_nothing_but_broken_lines_still_tells_them(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1\n2\n", encoding="utf-8")

    reason = "a line has 1 cells where the header has 2"
    assert read(path, ["a", "b"]) == ({}, [(1, reason, "1"), (2, reason, "2")])


def test_a_header_alone_has_no_rows(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n", encoding="utf-8")

    assert read(path, ["a"]) == ({}, [])


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.999])
def test_a_truncated_parquet_file_is_refused(tmp_path, frame, kept):
    path = tmp_path / "data.parquet"
    frame.to_parquet(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * kept)])

    with pytest.raises(ImportRefused, match="truncated or damaged"):
        open_source(path)


def test_a_parquet_file_damaged_inside_is_refused(tmp_path):
    path = tmp_path / "data.parquet"
    pd.DataFrame({"a": np.random.default_rng(1).integers(0, 2**60, 5_000)}).to_parquet(path)
    data = bytearray(path.read_bytes())
    data[4:4_000] = b"\xff" * 3_996
    path.write_bytes(data)

    with pytest.raises(ImportRefused, match="truncated or damaged"):
        read(path, ["a"])


@pytest.mark.parametrize(
    ("name", "data", "fact"),
    [
        ("data.csv", b"", "is empty"),
        ("data.csv", b"a,b\n1,\0\n", "neither Parquet"),
        ("data.csv", b"a,\xff\n1,2\n", "the header is no UTF-8 \\(--encoding"),
        ("data.parquet", b"a,b\n1,2\n", "neither Parquet"),
        ("data.csv.gz", b"\x1f\x8b\x08\0\0\0", "truncated or damaged"),
    ],
)
def test_what_is_neither_parquet_nor_csv_is_refused(tmp_path, name, data, fact):
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(ImportRefused, match=fact):
        open_source(path)


@pytest.mark.parametrize("bad", ["1,\xff", "\xfe,2", "1,\0"])
def test_a_line_that_is_no_text_is_broken_and_the_others_are_rows(tmp_path, bad):
    path = tmp_path / "data.csv"
    lines = ["1,2"] * 5_000
    lines[3_000] = bad
    path.write_bytes("\n".join(["a,b", *lines]).encode("latin-1"))

    rows, ((number, reason, _),) = read(path, ["b"])

    assert (set(rows.values()), len(rows)) == ({("2",)}, 4_999)
    assert (number, reason.startswith("the line")) == (3_001, True)


def test_a_character_on_the_edge_of_what_is_looked_at_first_is_no_reason_to_refuse(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a\n" + "x" * (4_096 - 3) + "é\n", encoding="utf-8")

    assert open_source(path).kind == "csv"


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ImportRefused, match="there is no file"):
        open_source(tmp_path / "nothing.csv")
    with pytest.raises(ImportRefused, match="a folder without a file"):
        open_source(tmp_path)


def test_the_digest_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"abc")

    assert digest_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Whatever quotation marks, ends of lines and encodings do


def as_rows(path, options=None):
    """The rows of all columns in order, the numbers of the broken ones, and what was assumed."""
    source = open_source(path, options)
    rows, broken = {}, []
    for chunk in source.chunks(source.columns):
        cells = zip(*(chunk.columns[name].to_pylist() for name in source.columns), strict=True)
        rows.update(zip(chunk.numbers.tolist(), cells, strict=True))
        broken += [number for number, _, _ in chunk.broken]
    assert sorted([*rows, *broken]) == list(range(1, len(rows) + len(broken) + 1))
    return rows, broken, source.notes


NOTED = "id,day,note\n" + "".join(f"{n},2024-01-{n:02d},fine\n" for n in range(1, 31))
HEIGHTS = {
    "never closed": {4: '"5ft 11'},
    "closed by the next that opens": {4: '"5ft 11', 9: '"6ft'},
    "closed at the end of a cell": {4: '"5ft 11', 9: '6ft"'},
    "closed by an empty cell": {4: '"5ft 11', 9: '"'},
    "closed in the next row": {4: '"5ft 11', 5: '6ft"'},
    "closed by the next row, which is empty": {4: '"5ft 11', 5: '"'},
    "in the last row": {30: '"5ft 11'},
    "twice in one cell": {4: '"5"ft'},
    "in every row": dict.fromkeys(range(1, 31), '"5ft'),
    "never closed, after a good one": {3: '"a ""good"" one"', 4: '"5ft 11'},
}


@pytest.mark.parametrize("block", [50, 4_000_000])
@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("notes", HEIGHTS.values(), ids=HEIGHTS)
def test_a_quotation_mark_takes_no_row_with_it(tmp_path, monkeypatch, notes, place, block):
    monkeypatch.setattr(csv_files, "_BLOCK", block)
    lines = [line.split(",") for line in NOTED.splitlines()]
    for number, note in notes.items():
        lines[number][2] = note
    for line in lines:
        line.insert(place, line.pop())
    path = tmp_path / "data.csv"
    path.write_text("\n".join(map(",".join, lines)) + "\n", encoding="utf-8")

    rows, broken, _ = as_rows(path)

    assert len(rows) + len(broken) == 30
    assert set(broken) <= set(notes)
    ids = {row[1 if place == 0 else 0] for row in rows.values()}
    assert ids == {str(n) for n in range(1, 31)} - {str(n) for n in broken}


def test_a_record_longer_than_any_is_one_that_is_never_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(csv_files, "_BLOCK", 64)
    monkeypatch.setattr(csv_records, "LONGEST_RECORD", 200)
    lines = NOTED.splitlines()
    lines[3] = '3,2024-01-03,"open'
    path = tmp_path / "data.csv"
    path.write_text("\n".join([*lines, '31,2024-01-31,"closed"']), encoding="utf-8")

    rows, broken, _ = as_rows(path)

    assert (broken, len(rows), rows[31]) == ([3], 30, ("31", "2024-01-31", "closed"))


def test_prose_of_several_lines_in_a_table_of_texts_is_a_cell(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('name,said\nAda,"well, yes\nno, thanks\nso, so"\nBob,x\n', encoding="utf-8")

    assert as_rows(path)[:2] == ({1: ("Ada", "well, yes\nno, thanks\nso, so"), 2: ("Bob", "x")}, [])


def test_a_header_longer_than_what_is_looked_at_first_is_whole(tmp_path):
    names = [f"a column with a long name, {number}" for number in range(5_000)]
    path = tmp_path / "data.csv"
    pd.DataFrame([range(5_000)], columns=names).to_csv(path, index=False)

    assert open_source(path).columns == tuple(names)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_cells_of_several_lines_are_cells(tmp_path, place):
    rows = [["id", "day"], ["1", "2024-01-01"], ["2", "2024-01-02"]]
    for row, note in zip(rows, ("note", "a\nb, c, d\n\ne", "x"), strict=True):
        row.insert(place, note)
    path = tmp_path / "data.csv"
    text = pd.DataFrame(rows[1:], columns=rows[0]).to_csv(index=False)
    header, rest = text.split("\n", maxsplit=1)
    path.write_text(f"{header}\n\n{rest}\n\n", encoding="utf-8")

    assert as_rows(path)[:2] == ({1: tuple(rows[1]), 2: tuple(rows[2])}, [])


_cells = st.text(st.sampled_from('ab,;\t|"\n :é\u2028\U0001f600') | st.characters(exclude_categories=["Cs", "Cc"]))
_written = st.fixed_dictionaries(
    {
        "quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
        # Lines within cells end as those between rows: the module puts others into cells without quotation marks.
        "lineterminator": st.sampled_from(["\n", "\r\n", "\r"]),
        "delimiter": st.sampled_from(",;\t|"),
    }
)


@settings(max_examples=150, deadline=None)
@given(
    notes=st.lists(st.tuples(_cells, _cells), min_size=1, max_size=12),
    how=_written,
    block=st.integers(1, 80),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_whatever_the_csv_module_writes_is_read_again(tmp_path_factory, notes, how, block, encoding):
    path = tmp_path_factory.mktemp("csv") / "data.csv"
    text = io.StringIO(newline="")
    # The first column tells the rows apart and looks like no other.
    rows = [
        (number + 0.5, *(cell.replace("\n", how["lineterminator"]) for cell in row))
        for number, row in enumerate(notes)
    ]
    csv.writer(text, **how).writerows([("id", "a", "b"), *rows])
    path.write_bytes(text.getvalue().encode(encoding))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_BLOCK", block)
        read_again, broken, _ = as_rows(path, CsvOptions(separator=how["delimiter"]))

    assert (broken, [tuple(cell or "" for cell in row[1:]) for row in read_again.values()]) == ([], notes)


def test_a_compressed_file_is_read_as_the_file_in_it(tmp_path):
    path = tmp_path / "data.csv.gz"
    # Two packed one after the other are one, as `cat` makes them.
    path.write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))

    assert as_rows(path)[:2] == ({1: ("1", "2"), 2: ("3", "4")}, [])


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.sampled_from('a1,"\n'), max_size=60),
    sizes=st.lists(st.integers(1, 20), min_size=60, max_size=60),
)
def test_every_line_of_any_text_is_in_one_record(text, sizes):
    data = text.encode()
    grammar = Grammar(separator=b",")
    swallowed = SwallowedRows(grammar, [], cells=3)

    def found(blocks):
        good, bad = [], []
        for records in RecordReader(grammar, swallowed, first=1).read(blocks):
            good += records.data.split(b"\n")
            bad += [(number, line) for number, _, line in records.broken]
            assert len(records.numbers) == len(set(records.numbers.tolist()) - {number for number, _ in bad})
        return sorted(line for line in good if line), bad

    edges = list(itertools.accumulate(sizes, initial=0))
    good, bad = found([data])
    assert (good, bad) == found([data[start:end] for start, end in itertools.pairwise(edges) if data[start:end]])
    assert sorted([*good, *(line.encode() for _, line in bad)]) == sorted(line for line in data.split(b"\n") if line)


def test_a_file_of_another_encoding_is_read_in_it(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes("naïve;café\n1;é\n".encode("cp1252"))

    assert as_rows(path, CsvOptions(encoding="cp1252"))[0] == {1: ("1", "é")}
    with pytest.raises(ImportRefused, match="--encoding"):
        open_source(path)
    with pytest.raises(ImportRefused, match="no encoding of text"):
        open_source(path, CsvOptions(encoding="rot13"))


@pytest.mark.parametrize("separator", [";", "\t", "|", "::"])
def test_a_plain_separator_is_found_and_said(tmp_path, separator):
    path = tmp_path / "data.csv"
    lines = [["id", "price, EUR", "name"], *(["1", "12,50", f'"of {separator} two"'] for _ in range(3))]
    path.write_text("\n".join(map(separator.join, lines)), encoding="utf-8")

    rows, broken, (note,) = as_rows(path)
    assert (list(rows.values()), broken) == ([("1", "12,50", f"of {separator} two")] * 3, [])
    assert "separated by" in note
    assert as_rows(path, CsvOptions(separator=separator))[2] == ()


def test_a_comma_is_no_guess(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b;c\n1,2;3\n", encoding="utf-8")

    assert as_rows(path) == ({1: ("1", "2;3")}, [], ())


@pytest.mark.parametrize("separator", ["", '"', "\n", "x", "1", ":::::"])
def test_what_separates_nothing_is_refused(tmp_path, separator):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n", encoding="utf-8")

    with pytest.raises(ImportRefused, match="--separator"):
        open_source(path, CsvOptions(separator=separator))


def test_without_a_header_the_first_line_is_a_row_and_columns_are_numbered(tmp_path):
    path = tmp_path / "data.dat"
    path.write_text("7::x\n8::y\n", encoding="utf-8")

    source = open_source(path, CsvOptions(has_header=False))
    assert source.columns == ("1", "2")
    assert as_rows(path, CsvOptions(has_header=False))[0] == {1: ("7", "x"), 2: ("8", "y")}


@pytest.mark.parametrize("header", ['a,"b\n1,2\n', '"a"x,b\n1,2\n'])
def test_a_header_that_is_not_well_formed_is_refused(tmp_path, header):
    path = tmp_path / "data.csv"
    path.write_text(header, encoding="utf-8")

    with pytest.raises(ImportRefused, match="quotation mark in the header"):
        open_source(path)


# Compressed files and folders


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_compressed_file_that_was_cut_is_refused(tmp_path, kept):
    path = tmp_path / "data.csv.gz"
    numbers = np.random.default_rng(1).integers(0, 10**9, 50_000)
    packed = gzip.compress(("a,b\n" + "".join(f"{n},2\n" for n in numbers)).encode())
    path.write_bytes(packed[: int(len(packed) * kept)])

    with pytest.raises(ImportRefused, match="truncated or damaged"):
        as_rows(path)


def test_parquet_inside_gzip_is_refused_with_what_to_do(tmp_path, frame):
    path = tmp_path / "data.parquet.gz"
    frame.to_parquet(tmp_path / "data.parquet")
    path.write_bytes(gzip.compress((tmp_path / "data.parquet").read_bytes()))

    with pytest.raises(ImportRefused, match="unpack it first"):
        open_source(path)


def test_the_parts_of_a_folder_are_read_in_the_order_of_their_names(tmp_path, frame):
    for name, part in (("c", frame[700:]), ("a", frame[:300]), ("b", frame[300:700])):
        part.to_parquet(tmp_path / f"part-{name}.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".part-a.crc").write_text("x")
    source = open_source(tmp_path)

    numbers, cells = [], []
    for chunk in source.chunks(["a"]):
        numbers += chunk.numbers.tolist()
        cells += chunk.columns["a"].to_pylist()
    assert (source.kind, numbers, cells) == ("parquet", list(range(1, 1_001)), frame.a.tolist())
    assert [source.named(row) for row in (1, 300, 301, 1_000)] == [
        "row 1 of part-a.parquet",
        "row 300 of part-a.parquet",
        "row 1 of part-b.parquet",
        "row 300 of part-c.parquet",
    ]
    assert source.notes == ("3 files of the folder were read, in the order of their names",)


def test_parts_whose_numbers_differ_in_width_or_hold_nulls_alone_are_one_table(tmp_path):
    pq.write_table(pa.table({"a": pa.array([1], pa.int32()), "b": pa.array([None], pa.null())}), tmp_path / "1")
    pq.write_table(pa.table({"b": pa.array(["x"]), "a": pa.array([2**40], pa.int64())}), tmp_path / "2")

    rows, _, _ = as_rows(tmp_path)
    assert list(rows.values()) == [(1, None), (2**40, "x")]


@pytest.mark.parametrize(
    ("second", "fact"),
    [
        ({"a": ["x"], "b": ["x"]}, "2.parquet: the column 'a' holds string, in the parts before it int64"),
        ({"b": ["x"]}, "2.parquet has no column 'a', which 1.parquet has"),
    ],
)
def test_parts_that_differ_are_refused_with_the_part_and_the_column(tmp_path, second, fact):
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table(second), tmp_path / "2.parquet")

    with pytest.raises(ImportRefused, match=fact):
        as_rows(tmp_path)


def test_parts_of_two_kinds_are_refused(tmp_path, frame):
    frame.to_parquet(tmp_path / "1.parquet")
    frame.to_csv(tmp_path / "2.csv")

    with pytest.raises(ImportRefused, match="of two kinds"):
        open_source(tmp_path)


def test_the_digest_of_a_folder_is_that_of_its_parts(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    before = digest_of(tmp_path)
    (tmp_path / "_SUCCESS").write_text("")
    assert digest_of(tmp_path) == before
    (tmp_path / "b").rename(tmp_path / "c")
    assert digest_of(tmp_path) != before


# Times of old writers


def test_int96_times_of_every_year_are_the_moments_that_they_were(tmp_path):
    years = [datetime(year, 12, 31, 23, 59, 59, 999_999) for year in (1600, 1969, 2024, 2300, 9999)]  # noqa: DTZ001
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"t": pa.array(years, pa.timestamp("us"))}), path, use_deprecated_int96_timestamps=True)

    rows, _, _ = as_rows(path)
    assert [time for (time,) in rows.values()] == years


@pytest.mark.parametrize("separator", [b",", b"::"])
def test_no_group_of_the_grammar_has_a_possessive_quantifier_which_fails_before_python_3_11_5(separator):
    assert re.search(rb"\)[*+?]\+", Grammar(separator=separator).record.pattern) is None
