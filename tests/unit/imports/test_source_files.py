"""Files are told apart by content; row numbers are the reader's; what is damaged is one clear refusal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reference_system.errors import ImportRefused
from reference_system.imports import source_files
from reference_system.imports.source_files import digest_of, open_source


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
    monkeypatch.setattr(source_files, "_CSV_BLOCK", 64)
    lines = [f"{n},{n * n}" for n in range(1, 201)]
    for number in (2, 3, 77, 200):
        lines[number - 1] += ",more"
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["a,b", *lines]) + "\n", encoding="utf-8")

    rows, broken = read(path, ["a"])

    assert broken == [(2, 3, 2), (3, 3, 2), (77, 3, 2), (200, 3, 2)]
    assert rows == {n: (str(n),) for n in range(1, 200) if n not in (2, 3, 77)}


def test_a_file_with_nothing_but_broken_lines_still_tells_them(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,b\n1\n2\n", encoding="utf-8")

    assert read(path, ["a", "b"]) == ({}, [(1, 1, 2), (2, 1, 2)])


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
        ("data.csv", b"a,b\n1,\xff\xfe\n", "neither Parquet"),
        ("data.parquet", b"a,b\n1,2\n", "neither Parquet"),
        ("data.csv.gz", b"\x1f\x8b\x08\0\0\0", "neither Parquet"),
    ],
)
def test_what_is_neither_parquet_nor_csv_is_refused(tmp_path, name, data, fact):
    path = tmp_path / name
    path.write_bytes(data)

    with pytest.raises(ImportRefused, match=fact):
        open_source(path)


def test_bytes_that_are_no_text_far_into_a_csv_are_refused(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 5_000 + b"1,\xff\n")

    with pytest.raises(ImportRefused, match="cannot be read"):
        read(path, ["a", "b"])


def test_a_character_on_the_edge_of_what_is_looked_at_first_is_no_reason_to_refuse(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a\n" + "x" * (4_096 - 3) + "é\n", encoding="utf-8")

    assert open_source(path).kind == "csv"


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ImportRefused, match="there is no file"):
        open_source(tmp_path / "nothing.csv")
    with pytest.raises(ImportRefused, match="is a folder"):
        open_source(tmp_path)


def test_the_digest_is_that_of_the_bytes(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"abc")

    assert digest_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
