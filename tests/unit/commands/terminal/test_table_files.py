"""A table is written in the format that the name of its file says, or the file is refused before the work."""

from __future__ import annotations

import gzip

import pandas as pd
import pyarrow as pa
import pytest

from reference_system.commands.terminal.table_files import require_table, write_table
from reference_system.errors import StateError

TABLE = pa.table({"id": ["Cedar, Dogwood", "O'Elm", "x\ty"], "score": [0.5, 1.0, None]})
READ = {
    ".parquet": pd.read_parquet,
    ".csv": pd.read_csv,
    ".csv.gz": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".tsv.gz": lambda path: pd.read_csv(path, sep="\t"),
}


@pytest.mark.parametrize("ending", READ)
@pytest.mark.parametrize("spelled", [str.lower, str.upper])
def test_the_format_is_the_one_that_the_name_says(tmp_path, ending, spelled):
    path = tmp_path / f"table{spelled(ending)}"
    require_table(path)
    write_table(path, TABLE)

    again = path.rename(tmp_path / f"again{ending}")
    pd.testing.assert_frame_equal(READ[ending](again), TABLE.to_pandas())
    assert (again.read_bytes()[:2] == gzip.compress(b"")[:2]) == ending.endswith(".gz")


@pytest.mark.parametrize("name", ["table", "table.json", "table.csv.zip", "csv", "table.parquet.gz", "table.gz"])
def test_a_name_that_says_no_format_is_refused(tmp_path, name):
    with pytest.raises(StateError, match=r"ends neither with \.parquet nor with \.csv nor with \.csv\.gz"):
        require_table(tmp_path / name)


def test_the_same_table_gives_the_same_compressed_bytes(tmp_path):
    for name in ("a.csv.gz", "b.csv.gz"):
        write_table(tmp_path / name, TABLE)

    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
