from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_system.errors import ExerciseError
from reference_system.workbook.expressions import MAX_LENGTH, evaluate_expression, names_in

VALUES = {"rate": 100.0, "seconds": 0.05, "zero": 0.0}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("rate * seconds", 5.0),
        ("(rate + 20) / 2 - 10", 50.0),
        ("-rate + 1", -99.0),
        ("2 ** 10", 1024.0),
        ("ceil(rate / 30)", 4.0),
        ("sqrt(rate)", 10.0),
        ("log(1) + rate", 100.0),
        ("min(rate, 7) + max(1, 2, 3)", 10.0),
        ("1_000 / 1e3", 1.0),
    ],
)
def test_arithmetic_over_names_is_evaluated(expression: str, expected: float) -> None:
    assert evaluate_expression(expression, VALUES) == pytest.approx(expected)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').getcwd()",
        "rate.real",
        "[1, 2][0]",
        "(lambda: 1)()",
        "'a' * 3",
        "True + 1",
        "1 if rate else 2",
        "rate // 3",
        "rate % 3",
        "rate < 3",
        "abs(rate)",
        "min(*[1, 2])",
        "min(1, key=2)",
        "x := 3",
        "1j",
        "f'{rate}'",
        "",
        "rate *",
        "sqrt()",
        "ceil(1, 2)",
        "unknown + 1",
    ],
)
def test_anything_but_arithmetic_is_refused(expression: str) -> None:
    with pytest.raises(ExerciseError):
        evaluate_expression(expression, VALUES)


@pytest.mark.parametrize(
    "expression", ["rate / zero", "sqrt(-1)", "log(zero)", "(-8) ** 0.5", "9 ** 9 ** 9", "1e999", "1e308 * 10"]
)
def test_an_expression_without_a_finite_value_is_refused(expression: str) -> None:
    with pytest.raises(ExerciseError):
        evaluate_expression(expression, VALUES)


def test_an_endless_expression_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ExerciseError, match="longer than"):
        evaluate_expression("(" * MAX_LENGTH + "1" + ")" * MAX_LENGTH, VALUES)


def test_the_names_an_expression_reads_exclude_functions() -> None:
    assert names_in("ceil(rate * max(seconds, 1))") == {"rate", "seconds"}


@given(st.text(max_size=60))
def test_no_text_makes_the_evaluator_fail_in_another_way(text: str) -> None:
    with contextlib.suppress(ExerciseError):
        evaluate_expression(text, VALUES)
