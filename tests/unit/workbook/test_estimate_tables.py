from __future__ import annotations

from pathlib import Path

import pytest

from reference_system.errors import ExerciseError
from reference_system.workbook.estimate import EstimateFile, Input, Result, Target
from reference_system.workbook.tables import (
    BEGIN,
    TABLE_END,
    block_of,
    changed_results,
    format_number,
    render_estimate,
    with_block,
    without_block,
)

ESTIMATE = EstimateFile(
    inputs={
        "daily": Input(value=8_640_000, unit="requests/day", kind="assumed", why="a | round\n number"),
        "share": Input(value=0.1, unit="%", kind="cited", source="paper"),
        "cpu": Input(unit="ms", kind="measured", command="make load"),
    },
    results={
        "rate": Result(expression="daily / 86400 / 7", unit="requests/s", value=14.3, reads="small"),
        "cores": Result(expression="rate * cpu / 1000", unit="cores", reads="unknown"),
    },
    targets={"limit": Target(value=50, unit="ms", why="patience", command="make load")},
)


@pytest.mark.parametrize(
    ("value", "significant", "text"),
    [
        (8_640_000, None, "8,640,000"),
        (14.285714, 3, "14.3"),
        (1234.6, 3, "1,230"),
        (0.000123456, 3, "0.000123"),
        (0, 3, "0"),
        (0.1, None, "0.1"),
        (99.96, 3, "100"),
        (1e-9, None, "1e-09"),
        (-2.5, 3, "-2.5"),
    ],
)
def test_numbers_are_written_for_people(value: float, significant: int | None, text: str) -> None:
    assert format_number(value, significant=significant) == text


def test_the_table_holds_inputs_with_their_origin_and_recomputed_results() -> None:
    assert render_estimate(ESTIMATE).splitlines() == [
        "| input | value | unit | kind | why, source or command |",
        "|---|---:|---|---|---|",
        r"| `daily` | 8,640,000 | requests/day | assumed | a \| round number |",
        "| `share` | 0.1 | % | cited | [paper](sources.toml#paper) |",
        "| `cpu` | not measured yet | ms | measured | `make load` |",
        "",
        "| result | formula | value | unit | what it means |",
        "|---|---|---:|---|---|",
        "| `rate` | `daily / 86400 / 7` | 14.3 | requests/s | small |",
        "| `cores` | `rate * cpu / 1000` | not measured yet | cores | unknown |",
    ]


def test_a_block_put_between_the_markers_is_found_again() -> None:
    page = f"before\n{BEGIN}\nold\n{TABLE_END}\nafter\n"

    refreshed = with_block(page, "new\nlines")

    assert block_of(refreshed) == "new\nlines"
    assert refreshed == f"before\n{BEGIN}\nnew\nlines\n{TABLE_END}\nafter\n"
    assert with_block(refreshed, "new\nlines") == refreshed


@pytest.mark.parametrize("page", ["", BEGIN, f"{TABLE_END}{BEGIN}", f"{BEGIN}{TABLE_END}{BEGIN}{TABLE_END}"])
def test_markers_that_are_missing_or_doubled_are_refused(page: str) -> None:
    assert block_of(page) is None
    with pytest.raises(ExerciseError, match="estimate:begin"):
        with_block(page, "new")


def test_taking_the_block_out_keeps_line_numbers() -> None:
    page = f"before\n{BEGIN}\n5 ms\n6 ms\n{TABLE_END}\nafter\n"

    assert without_block(page).splitlines().index("after") == page.splitlines().index("after")
    assert "5 ms" not in without_block(page)


def test_a_what_if_shows_each_result_before_and_after() -> None:
    assert changed_results(ESTIMATE, {"daily": 6_048_000, "cpu": 2}) == {
        "rate": (pytest.approx(14.2857, rel=1e-4), pytest.approx(10)),
        "cores": (None, pytest.approx(0.02)),
    }


def test_a_rendered_table_survives_a_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "04-estimate.md"
    path.write_text(with_block(f"{BEGIN}\n{TABLE_END}\n", render_estimate(ESTIMATE)), encoding="utf-8")

    assert block_of(path.read_text(encoding="utf-8")) == render_estimate(ESTIMATE)
