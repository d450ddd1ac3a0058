"""`workbook design` as a reader types it."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from reference_system.commands.workbook.design import app
from reference_system.workbook.exercise import TEMPLATE

run = CliRunner().invoke


def test_check_prints_file_line_and_rule_and_fails(sample) -> None:
    sample.append("05-answer.md", "\nIt answers in 100 ms.\n")

    result = run(app, ["check", "sample", "--designs", sample.designs])

    assert result.exit_code == 1
    assert re.search(
        r"^sample/05-answer\.md:\d+: “100 ms” is unbound; .* \[unbound-number\]$", result.stdout, re.MULTILINE
    )


def test_check_as_json_is_for_programs(sample) -> None:
    result = run(app, ["check", "--json", "--designs", sample.designs])

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "designs": {"sample": {"passes": True, "problems": []}, TEMPLATE: {"passes": True, "problems": []}}
    }


def test_estimate_answers_a_what_if_and_writes_nothing(sample) -> None:
    before = (sample.folder / "04-estimate.md").read_bytes()

    arguments = ["estimate", "sample", "--set", "daily_requests=8_640_000", "--json"]
    result = run(app, [*arguments, "--designs", sample.designs])

    assert json.loads(result.stdout)["values"]["mean_rate"] == pytest.approx(100)
    assert (sample.folder / "04-estimate.md").read_bytes() == before


def test_estimate_write_refreshes_a_stale_table(sample) -> None:
    sample.edit("estimate.toml", "One process would do", "Two processes would do")

    result = run(app, ["estimate", "sample", "--write", "--designs", sample.designs])

    assert result.exit_code == 0
    assert sample.rules() == set()


def test_estimate_write_refuses_a_wrong_result(sample) -> None:
    sample.edit("estimate.toml", "value = 23.1", "value = 24.1")

    result = run(app, ["estimate", "sample", "--write", "--designs", sample.designs])

    assert result.exit_code != 0
    assert "mend estimate.toml first" in str(result.exception)


@pytest.mark.parametrize(
    "arguments", [["--set", "peak_factor"], ["--set", "peak_factor=many"], ["--set", "peak_factor=2", "--write"]]
)
def test_estimate_refuses_a_what_if_it_cannot_answer(sample, arguments: list[str]) -> None:
    result = run(app, ["estimate", "sample", *arguments, "--designs", sample.designs])

    assert result.exit_code != 0


def test_new_starts_an_exercise(sample) -> None:
    result = run(app, ["new", "my_own", "--designs", sample.designs])

    assert result.exit_code == 0
    assert (sample.folder.parent / "my_own" / "05-answer.md").is_file()


def test_list_shows_level_minutes_and_verdict(sample) -> None:
    result = run(app, ["list", "--designs", sample.designs], env={"COLUMNS": "200"})

    assert result.exit_code == 0
    assert re.search(r"sample.*senior.*45.*passes", result.stdout)
    assert TEMPLATE not in result.stdout


def test_a_folder_of_ones_own_needs_no_template(sample) -> None:
    folder = sample.folder.parent.parent / "mine"

    assert run(app, ["new", "my_own", "--designs", str(folder)]).exit_code == 0
    assert json.loads(run(app, ["check", "--json", "--designs", str(folder)]).stdout)["designs"].keys() == {"my_own"}
