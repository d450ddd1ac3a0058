"""The table of inputs and results that stands in `04-estimate.md`, and the one a what-if prints.

In: an estimate. Out: Markdown between two markers.
Invariant: what stands between the markers is rendered, never typed; the same estimate gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from reference_system.errors import ExerciseError
from reference_system.workbook.estimate import EstimateFile, Input, compute

BEGIN = "<!-- estimate:begin -->"
TABLE_END = "<!-- estimate:end -->"
_SIGNIFICANT = 3
_SMALLEST_PLAIN = 1e-6


def format_number(value: float, *, significant: int | None = None) -> str:
    """A number for people: thousands separators, no exponent, rounded if asked."""
    if significant is not None and value != 0:
        value = round(value, significant - 1 - math.floor(math.log10(abs(value))))
    if value == int(value):
        return f"{int(value):,}"
    if abs(value) < _SMALLEST_PLAIN:
        return f"{value:g}"
    return f"{value:,.12f}".rstrip("0")


def render_estimate(estimate: EstimateFile) -> str:
    """The whole block, markers excluded."""
    values = compute(estimate)
    lines = ["| input | value | unit | kind | why, source or command |", "|---|---:|---|---|---|"]
    lines += [
        _row(f"`{name}`", _cell(given.value), given.unit, given.kind, _origin(given))
        for name, given in estimate.inputs.items()
    ]
    lines += ["", "| result | formula | value | unit | what it means |", "|---|---|---:|---|---|"]
    lines += [
        _row(f"`{name}`", f"`{result.expression}`", _cell(values[name], _SIGNIFICANT), result.unit, result.reads)
        for name, result in estimate.results.items()
    ]
    return "\n".join(lines)


def block_of(text: str) -> str | None:
    """What stands between the markers, None unless both stand there once and in order."""
    if text.count(BEGIN) != 1 or text.count(TABLE_END) != 1 or text.index(BEGIN) > text.index(TABLE_END):
        return None
    return text.partition(BEGIN)[2].partition(TABLE_END)[0].strip("\n")


def with_block(text: str, block: str) -> str:
    """`text` with the block between its markers replaced.

    Raises:
        ExerciseError: if the markers are missing.
    """
    if block_of(text) is None:
        raise ExerciseError(f"04-estimate.md needs one `{BEGIN}` and, below it, one `{TABLE_END}`")
    before, after = text.partition(BEGIN)[0], text.partition(TABLE_END)[2]
    return f"{before}{BEGIN}\n{block}\n{TABLE_END}{after}"


def without_block(text: str) -> str:
    """`text` with the block's lines emptied, so that line numbers stay."""
    block = block_of(text)
    return text if block is None else text.replace(block, "\n" * block.count("\n"))


def changed_results(
    estimate: EstimateFile, overrides: Mapping[str, float]
) -> dict[str, tuple[float | None, float | None]]:
    """Each result before and after a what-if."""
    before, after = compute(estimate), compute(estimate, overrides)
    return {name: (before[name], after[name]) for name in estimate.results}


def _origin(given: Input) -> str:
    if given.kind == "cited":
        return f"[{given.source}](sources.toml#{given.source})"
    if given.kind == "measured":
        return f"`{given.command}`" + (f", recorded in `{given.run}`" if given.run else "")
    return given.why or ""


def _cell(value: float | None, significant: int | None = None) -> str:
    return "not measured yet" if value is None else format_number(value, significant=significant)


def _row(*cells: str) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
