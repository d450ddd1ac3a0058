"""`estimate.toml`: inputs, results computed from them, targets.

In: the file's text and, for a what-if, other values for some inputs. Out: every value, recomputed.
Invariant: a result is computed only from inputs, targets and results above it; a result that waits for a
measurement has no value, stated or computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from reference_system.errors import ExerciseError
from reference_system.workbook.expressions import evaluate_expression, names_in
from reference_system.workbook.toml_tables import convert_tables, read_tables

# Stated results are rounded for people; more than this and the reader was told another number.
ESTIMATE_TOLERANCE = 0.01


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that the estimate starts from, and why it may be believed."""

    unit: str
    kind: Literal["cited", "assumed", "measured"]
    value: int | float | None = None  # None: not measured yet
    why: str | None = None  # assumed: the reason, one sentence
    source: str | None = None  # cited: a key of sources.toml
    command: str | None = None  # measured: what gives the number
    run: str | None = None  # measured: the file that recorded it, relative to the repository

    @property
    def origin(self) -> str | None:
        """What this kind of input must carry."""
        return {"cited": self.source, "assumed": self.why, "measured": self.command}[self.kind]


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that follows from others."""

    expression: str
    unit: str
    reads: str  # one sentence: what the number means for the design
    value: int | float | None = None  # None: an input is not measured yet


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that the design promises, and the command that would catch a broken promise."""

    value: int | float
    unit: str
    why: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateFile:
    """The whole of `estimate.toml`."""

    inputs: dict[str, Input]
    results: dict[str, Result]
    targets: dict[str, Target]

    def named(self) -> Iterator[tuple[str, Input | Result | Target]]:
        """Every entry under the name that expressions and links use."""
        yield from self.inputs.items()
        yield from self.results.items()
        yield from self.targets.items()

    def entry(self, name: str) -> Input | Result | Target | None:
        """The input, result or target called `name`."""
        return dict(self.named()).get(name)


def load_estimate(path: Path) -> EstimateFile:
    """Read `estimate.toml` strictly.

    Raises:
        ExerciseError: if it is no TOML, has unknown or missing fields, a name twice, or a value that is not finite.
    """
    tables = read_tables(path)
    estimate = EstimateFile(
        inputs=convert_tables(f"{path.name}: inputs", tables.pop("inputs", {}), Input),
        results=convert_tables(f"{path.name}: results", tables.pop("results", {}), Result),
        targets=convert_tables(f"{path.name}: targets", tables.pop("targets", {}), Target),
    )
    if tables:
        raise ExerciseError(f"{path.name}: `{next(iter(tables))}` is none of inputs, results, targets")
    _check_names(path.name, estimate)
    return estimate


def compute(estimate: EstimateFile, overrides: Mapping[str, float] | None = None) -> dict[str, float | None]:
    """Every value by name, results recomputed in the order of the file; None waits for a measurement.

    Raises:
        ExerciseError: if an override names no input or target, or an expression cannot be evaluated.
    """
    given: dict[str, Input | Target] = {**estimate.inputs, **estimate.targets}
    values: dict[str, float | None] = {name: entry.value for name, entry in given.items()}
    for name, value in (overrides or {}).items():
        if name not in given:
            raise ExerciseError(f"`{name}` is no input or target; there are: {', '.join(given)}")
        values[name] = value
    for name, result in estimate.results.items():
        try:
            values[name] = _computed(result, values)
        except ExerciseError as error:
            raise ExerciseError(f"results.{name}: {error}") from error
    return values


def agrees(stated: float, computed: float) -> bool:
    """Whether a stated result is the computed one, rounded."""
    return math.isclose(stated, computed, rel_tol=ESTIMATE_TOLERANCE, abs_tol=1e-12)


def _computed(result: Result, values: Mapping[str, float | None]) -> float | None:
    known = {name: value for name, value in values.items() if value is not None}
    waiting = {name for name in names_in(result.expression) if name in values and name not in known}
    return None if waiting else evaluate_expression(result.expression, known)


def _check_names(file: str, estimate: EstimateFile) -> None:
    seen: set[str] = set()
    for name, entry in estimate.named():
        if name in seen:
            raise ExerciseError(f"{file}: `{name}` is used twice; a link could not tell which is meant")
        if not name.isidentifier():
            raise ExerciseError(f"{file}: `{name}` cannot stand in an expression; use letters, digits and _")
        if entry.value is not None and not math.isfinite(entry.value):
            raise ExerciseError(f"{file}: `{name}` must be a finite number")
        seen.add(name)
