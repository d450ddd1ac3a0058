"""Arithmetic that a reader may write in `estimate.toml`.

In: one expression and the values its names stand for. Out: a finite float.
Invariant: only numbers, names, + - * / ** ( ) and min max ceil sqrt log are evaluated; nothing is executed.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from reference_system.errors import ExerciseError

# Deeper or longer formulas are split into named results, which a reader can also follow.
MAX_LENGTH = 400

_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: math.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "ceil": math.ceil,
    "sqrt": math.sqrt,
    "log": math.log,  # natural: the tail of a waiting time is exponential
}
_ONE_ARGUMENT = frozenset({"ceil", "sqrt", "log"})


def evaluate_expression(expression: str, values: Mapping[str, float]) -> float:
    """The value of `expression` with its names replaced by `values`.

    Raises:
        ExerciseError: if it is not arithmetic, names something unknown or has no finite value.
    """
    tree = _parse(expression)
    try:
        number = float(_value(tree, values))
    except (ArithmeticError, ValueError) as error:
        raise ExerciseError(f"`{expression}` has no value: {error}") from error
    if not math.isfinite(number):
        raise ExerciseError(f"`{expression}` has no finite value")
    return number


def names_in(expression: str) -> frozenset[str]:
    """The inputs and results that `expression` reads."""
    nodes = ast.walk(_parse(expression))
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name)) - _FUNCTIONS.keys()


def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_LENGTH:
        raise ExerciseError(
            f"an expression of {len(expression)} characters is longer than {MAX_LENGTH}: name its parts"
        )
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExerciseError(f"`{expression}` is not arithmetic") from error


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=bool() | str() | bytes() | complex() | None):
            pass
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return _named(name, values)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand, values))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _BINARY[type(sign)](_value(left, values), _value(right, values))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS and arguments:
            return _called(name, [_value(argument, values) for argument in arguments])
    raise ExerciseError(
        f"`{ast.unparse(node)}` is not allowed: use numbers, names, + - * / ** ( ) min max ceil sqrt log"
    )


def _named(name: str, values: Mapping[str, float]) -> float:
    if name not in values:
        raise ExerciseError(f"`{name}` is no input, target or earlier result")
    return float(values[name])


def _called(name: str, arguments: list[float]) -> float:
    if name in _ONE_ARGUMENT:
        if len(arguments) != 1:
            raise ExerciseError(f"`{name}` takes one argument, not {len(arguments)}")
        return _FUNCTIONS[name](arguments[0])
    return _FUNCTIONS[name](arguments)
