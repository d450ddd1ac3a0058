"""`workbook drift report` on files, and the page that Evidently draws."""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from reference_system import cli
from reference_system.commands.drift.files import open_table, sampled_rows
from reference_system.commands.drift.tables import sparkline
from reference_system.monitoring.table_drift.comparison import compare_tables
from reference_system.monitoring.table_drift.report import ChunkDrift, DriftSettings
from reference_system.proofs.benchmarks.drift import evidently_psi, two_tables

RUNNER = CliRunner()


def nasty(seed, rows, shift=0.0):
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "number": rng.normal(shift, 1.0, rows),
            "symbols": rng.choice(["?", "n/a", "a,b", 'say "x"', "ä\n", ""], rows).tolist(),
            "<b>[red]": ["?" if value < -1.5 else f"{value:.3f}" for value in rng.normal(size=rows)],
            "gone": pa.array(rng.random(rows), mask=rng.random(rows) < 0.1),
            "constant": [1] * rows,
            "row": range(rows),
        }
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name, found in (("old", nasty(1, 4_000)), ("new", nasty(2, 2_000)), ("moved", nasty(3, 2_000, 0.4))):
        pyarrow.parquet.write_table(found, folder / f"{name}.parquet")
        pyarrow.csv.write_csv(found, folder / f"{name}.csv")
    (folder / "broken.csv").write_text("number,symbols\n" + "1.5,a\n" * 100 + "1,2,3\n")
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("number,symbols\n")
    (folder / "no_table.csv").write_bytes(b"\0\1\2" * 100)
    return folder


def ran(files, reference, current, *options):
    names = ["--reference", str(files / reference), "--current", str(files / current)]
    return RUNNER.invoke(cli.app, ["drift", "report", *names, *options])


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_the_answer_for_programs_has_the_promised_shape(files, kind):
    result = ran(files, f"old.{kind}", f"moved.{kind}", "--chunk-size", "1000", "--json")
    found = json.loads(result.stdout)

    assert result.exit_code == 0
    assert set(found["columns"]) == {"number", "symbols", "<b>[red]", "gone", "constant"}
    assert list(found["left_out"]) == ["row"]
    for column in found["columns"].values():
        assert set(column) == {"kind", "method", "threshold", "chunks", "first_alert"}
        assert [set(chunk) for chunk in column["chunks"]] == [{"chunk", "rows", "statistic", "alert"}] * 2
    assert {name: column["first_alert"] for name, column in found["columns"].items() if column["first_alert"]} == {
        "number": 1
    }
    assert [found["columns"][name]["kind"] for name in ("number", "symbols", "<b>[red]")] == [
        "number",
        "category",
        "number",
    ]


def test_people_see_the_verdicts_and_what_was_left_out(files):
    shown = ran(files, "old.csv", "moved.csv", "--chunk-size", "1000").stdout

    assert re.search(r"number +number +anderson-darling .* drift in 2 of 2, first in 1", shown)
    assert "<b>[red]" in shown
    assert "not compared: row: identifier-like" in shown
    assert shown.strip().endswith("drift in 1 of 5 columns")


def test_no_drift_is_said_in_a_line(files):
    assert ran(files, "old.parquet", "new.parquet").stdout.strip().endswith("no drift")


def test_broken_lines_are_left_out_and_counted(files):
    shown = ran(files, "old.csv", "broken.csv").stdout
    assert "1 lines with another number of cells" in shown.replace("\n", " ")


@pytest.mark.parametrize(
    ("reference", "options", "message"),
    [
        ("nowhere.csv", (), "there is no file"),
        (".", (), "empty.csv is empty"),
        ("empty.csv", (), "is empty"),
        ("header.csv", (), "has no rows"),
        ("no_table.csv", (), "neither Parquet"),
        ("old.csv", ("--chunk-size", "0"), "--chunk-size 0"),
        ("old.csv", ("--timestamp", "when"), "no column 'when'"),
        ("old.csv", ("--false-alarm-rate", "1"), "is no rate"),
        ("old.csv", ("--out", "/nowhere/page.html"), "cannot be written"),
    ],
)
def test_what_cannot_be_compared_is_one_line(files, reference, options, message):
    result = ran(files, reference, "new.csv", *options)

    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def written(folder, name, **columns):
    write = pyarrow.parquet.write_table if name.endswith(".parquet") else pyarrow.csv.write_csv
    write(pa.table(columns), folder / name)
    return name


NUMBERS = np.random.default_rng(8).normal(size=200)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_nothing_that_can_be_compared_is_an_answer_with_the_reasons_and_the_exit_code_1(files, options):
    days = [f"2024-{month:02}-{day:02}" for month in (3, 4) for day in range(1, 29)]
    table = written(files, "times.csv", day=days)
    result = ran(files, table, table, *options, "--out", str(files / "nothing.html"))

    assert result.exit_code == 1
    assert result.stderr.strip() == "nothing could be compared (day: a time: it moves on by itself)"
    assert "Nothing could be compared" in (files / "nothing.html").read_text()
    if options:
        found = json.loads(result.stdout)
        assert (found["columns"], found["left_out"]) == ({}, {"day": "a time: it moves on by itself"})
    else:
        assert "not compared: day: a time" in result.stdout
        assert "no drift" not in result.stdout


MOST = float(np.finfo(np.float64).max)
EXTREMES = {
    "all infinite": (np.full(200, np.inf), np.full(200, np.inf), "no value that can be drawn"),
    "infinite since": (NUMBERS, np.full(200, -np.inf), "no value that can be drawn"),
    "largest floats": (np.append(NUMBERS[1:], MOST), np.append(NUMBERS[1:], -MOST), "too far apart"),
    "keys that repeat": (
        np.repeat(2**62 + np.arange(4), 50),
        np.repeat(2**62 + np.arange(4), 50),
        "too close together",
    ),
    "some infinite": (np.append(NUMBERS[1:], np.inf), np.append(NUMBERS[1:], -np.inf), None),
    "an outlier": (np.append(NUMBERS[1:], 1e300), NUMBERS, None),
    "constant": (np.full(200, 3.0), np.full(200, 4.0), None),
    "missing since": (NUMBERS, np.full(200, np.nan), "no value that can be drawn"),
}


@pytest.mark.parametrize("what", EXTREMES)
def test_the_page_says_which_columns_cannot_be_drawn(files, evidently, what):
    before, now, reason = EXTREMES[what]
    paths = [files / written(files, f"extreme-{place}.parquet", x=each) for place, each in enumerate((before, now))]
    tables = [open_table(path, lambda *_: None).view(path.name) for path in paths]
    found = compare_tables(*tables, DriftSettings())
    page = evidently.render_evidently(*(sampled_rows(table, found, 200, 200) for table in tables), found)

    assert (reason is None) == ("Compared, but not drawn" not in page)
    assert reason is None or reason in page


def test_spaces_around_the_names_of_columns_are_no_part_of_them(files):
    (files / "spaced.csv").write_text("a, b ,c\n" + "1, x ,2\n" * 60)
    (files / "plain.csv").write_text("a,b,c\n" + "1,x,2\n" * 60)
    found = json.loads(ran(files, "plain.csv", "spaced.csv", "--json").stdout)
    assert (set(found["columns"]), found["left_out"]) == ({"a", "b", "c"}, {})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_two_columns_that_differ_by_spaces_alone_are_refused(files, kind):
    two = pa.table({"a": [1] * 60, "a ": [2] * 60})
    pyarrow.csv.write_csv(two, files / "two.csv")
    pyarrow.parquet.write_table(two, files / "two.parquet")
    refused = ran(files, f"two.{kind}", f"two.{kind}", "--json")
    assert refused.exit_code == 1
    assert f"two.{kind} has more than one column 'a'" in " ".join(refused.stderr.split())


def test_nanoseconds_and_the_end_of_daylight_saving_time_order_rows(files):
    hours = [
        f"2024-10-27T02:{minute:02}:{second:02}.123456789+0{zone}:00"
        for zone in (2, 1)
        for minute in range(60)
        for second in (0, 30)
    ]
    table = written(files, "nanos.csv", at=hours, x=np.where(np.arange(240) < 120, 0.0, 1.0))
    shown = json.loads(ran(files, table, table, "--timestamp", "at", "--chunk-size", "120", "--json").stdout)
    assert [chunk["alert"] for chunk in shown["columns"]["x"]["chunks"]] == [True, True]


def test_a_sparkline_has_the_threshold_at_half_height_and_marks_alerts():
    chunks = [
        ChunkDrift(chunk=number, rows=100, statistic=value, alert=alert)
        for number, value, alert in ((1, 0.0, False), (2, 0.99, False), (3, 1.01, True), (4, None, False))
    ]
    assert sparkline(chunks, 1.0) == "▁▄[red]▅[/red]▁"
    assert len(sparkline(chunks * 30, 1.0).replace("[red]", "").replace("[/red]", "")) <= 24


@pytest.fixture(scope="module")
def evidently():
    with warnings.catch_warnings():
        # What its own imports deprecate is its business.
        warnings.simplefilter("ignore")
        from reference_system.monitoring.table_drift import evidently_report

    return evidently_report


def test_the_page_has_our_verdicts_and_loads_nothing(files, evidently):
    tables = [open_table(files / f"{name}.parquet", lambda *_: None).view(name) for name in ("old", "moved")]
    found = compare_tables(*tables, DriftSettings(chunk_size=1_000))
    frames = [sampled_rows(table, found, rows, 500) for table, rows in zip(tables, (4_000, 2_000), strict=True)]
    page = evidently.render_evidently(*frames, found)

    assert [len(frame) for frame in frames] == [500, 500]
    assert "Drift in 1 of 5 columns" in page
    assert "&lt;b&gt;[red]" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert not re.search(r"""(?:import|fetch|url)\(\s*["']?https?:""", page)
    assert "default-src 'none'" in page
    # Evidently's own verdict is ours.
    assert "Drift is detected for 20.0% of columns (1 out of 5)" in page


def test_our_pass_gives_evidentlys_own_psi(evidently):
    before, now = two_tables(2_000, 10, 0), two_tables(2_000, 10, 1)
    texts = [name for name in before if name.startswith("text")]
    frames = [pd.DataFrame({name: cells.to_pandas() for name, cells in each.items()}) for each in (before, now)]
    theirs = evidently.run_preset(*frames, texts, "psi")

    assert evidently_psi(before, now) == pytest.approx(theirs, abs=1e-9)
    assert max(theirs.values()) > 0.01
