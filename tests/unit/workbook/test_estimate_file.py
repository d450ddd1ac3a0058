from __future__ import annotations

from pathlib import Path

import pytest

from reference_system.errors import ExerciseError
from reference_system.workbook.estimate import EstimateFile, agrees, compute, load_estimate

TEXT = """
[inputs.daily]
value = 8_640_000
unit = "requests/day"
kind = "assumed"
why = "a round number"

[inputs.service_time]
unit = "ms"
kind = "measured"
command = "make load"

[results.rate]
expression = "daily / 86400"
unit = "requests/s"
value = 100
reads = "one process"

[results.in_flight]
expression = "rate * limit / 1000"
unit = "requests"
value = 5
reads = "few"

[results.cores]
expression = "rate * service_time / 1000"
unit = "cores"
reads = "not known yet"

[targets.limit]
value = 50
unit = "ms"
why = "the caller gives up"
command = "make load"
"""


def estimate_from(folder: Path, text: str = TEXT) -> EstimateFile:
    path = folder / "estimate.toml"
    path.write_text(text, encoding="utf-8")
    return load_estimate(path)


def test_results_follow_from_inputs_targets_and_earlier_results(tmp_path: Path) -> None:
    values = compute(estimate_from(tmp_path))

    assert values["rate"] == pytest.approx(100)
    assert values["in_flight"] == pytest.approx(5)


def test_a_result_waits_for_what_is_not_measured(tmp_path: Path) -> None:
    assert compute(estimate_from(tmp_path))["cores"] is None


def test_a_what_if_replaces_inputs_and_targets_and_fills_what_is_not_measured(tmp_path: Path) -> None:
    values = compute(estimate_from(tmp_path), {"daily": 17_280_000, "limit": 10, "service_time": 2})

    assert (values["rate"], values["in_flight"], values["cores"]) == pytest.approx((200, 2, 0.4))


@pytest.mark.parametrize("name", ["rate", "nothing"])
def test_a_what_if_about_a_result_or_an_unknown_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExerciseError, match="no input or target"):
        compute(estimate_from(tmp_path), {name: 1})


def test_a_result_cannot_read_a_later_one(tmp_path: Path) -> None:
    text = TEXT.replace('expression = "daily / 86400"', 'expression = "in_flight * 20"')

    with pytest.raises(ExerciseError, match=r"results\.rate: `in_flight` is no input"):
        compute(estimate_from(tmp_path, text))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('kind = "assumed"', 'kind = "guessed"', "inputs.daily"),
        ('why = "a round number"', 'wy = "a round number"', "inputs.daily"),
        ("value = 8_640_000", 'value = "8640000"', "inputs.daily"),
        ("value = 8_640_000", "value = nan", "`daily` must be a finite number"),
        ("[targets.limit]", "[targets.rate]", "`rate` is used twice"),
        ("[targets.limit]", "[goals.limit]", "`goals` is none of"),
        ("[inputs.daily]", '[inputs."daily total"]', "cannot stand in an expression"),
        ("[inputs.daily]", "[inputs.daily", "estimate.toml"),
        ("[inputs.daily]", "inputs = 3\n[other.daily]", "estimate.toml"),
    ],
)
def test_a_faulty_file_is_refused_and_the_entry_named(tmp_path: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(ExerciseError, match=message.replace("[", r"\[").replace(".", r"\.")):
        estimate_from(tmp_path, TEXT.replace(before, after, 1))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExerciseError, match=r"estimate\.toml: the file is missing"):
        load_estimate(tmp_path / "estimate.toml")


def test_a_stated_result_may_be_rounded_but_not_wrong() -> None:
    assert agrees(92.6, 92.5926)
    assert not agrees(94, 92.5926)
