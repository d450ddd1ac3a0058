"""Is every number true, and does every quantity say where it comes from?

In: an exercise. Out: problems of its estimate, its sources and the numbers in its pages.
Invariant: a result is recomputed, never believed; a quantity without a binding is a problem, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator

from reference_system.errors import ExerciseError
from reference_system.workbook.estimate import EstimateFile, agrees, compute
from reference_system.workbook.exercise import ESTIMATE, PAGES, SOURCES, Exercise, repository_of
from reference_system.workbook.markdown_page import Link, Page, Passage, parse_page
from reference_system.workbook.problems import BrokenRule
from reference_system.workbook.quantities import (
    Number,
    canonical_unit,
    is_bare_quantity,
    numbers_of_text,
    quantities_in,
)
from reference_system.workbook.sources import Publication
from reference_system.workbook.tables import block_of, format_number, render_estimate, without_block

BOUND_PAGES = ("03-requirements.md", "04-estimate.md", "05-answer.md")


def number_problems(exercise: Exercise) -> Iterator[BrokenRule]:
    """Everything that is wrong with the exercise's numbers."""
    reading = SOURCES
    try:
        sources = exercise.sources
        reading = ESTIMATE
        estimate = exercise.estimate
        values = compute(estimate)
    except ExerciseError as error:
        yield BrokenRule(file=reading, rule="bad-toml", message=str(error))
        return
    yield from _estimate_problems(exercise, estimate, sources)
    yield from _result_problems(estimate, values)
    yield from _citation_problems(exercise, estimate, sources)
    yield from _target_problems(exercise, estimate)
    yield from _block_problems(exercise, estimate)
    for name in PAGES:
        page = _prose_page(exercise, name)
        for link in page.links:
            yield from _binding_problems(name, link, estimate, sources)
        if name in BOUND_PAGES:
            yield from _unbound_problems(name, page)


def binding_of(link: Link) -> tuple[str, str] | None:
    """(file, name) if the link binds a number."""
    path, _, fragment = link.target.removeprefix("./").partition("#")
    return (path, fragment) if path in {ESTIMATE, SOURCES} and fragment else None


def _prose_page(exercise: Exercise, name: str) -> Page:
    page = exercise.page(name)
    return parse_page(without_block(page.text)) if name == "04-estimate.md" else page


def _estimate_problems(
    exercise: Exercise, estimate: EstimateFile, sources: dict[str, Publication]
) -> Iterator[BrokenRule]:
    for name, given in estimate.inputs.items():
        fault = None
        if not (given.origin or "").strip():
            needed = {"cited": "source", "assumed": "why", "measured": "command"}[given.kind]
            fault = f"is {given.kind} and needs `{needed}`"
        elif given.kind != "measured" and given.value is None:
            fault = f"is {given.kind} and needs a value"
        elif given.kind == "measured" and (given.value is None) != (given.run is None):
            fault = "is measured: `value` and `run` come together, or neither"
        elif given.run is not None and not (repository_of(exercise.folder) / given.run).is_file():
            fault = f"names a run file that is not there: {given.run}"
        elif given.kind == "cited":
            fault = _citation_fault(given.value, given.unit, sources.get(str(given.source)))
        if fault:
            yield BrokenRule(file=ESTIMATE, rule="bad-input", message=f"inputs.{name} {fault}")


def _citation_fault(value: float | None, unit: str, source: Publication | None) -> str | None:
    if source is None:
        return "cites a source that is not in sources.toml"
    quoted = list(numbers_of_text(source.quote))
    if value is not None and not any(number.states(value) for number in quoted):
        return f"states {format_number(value)} {unit}, which the quotation does not; use the quotation's unit"
    return None


def _result_problems(estimate: EstimateFile, values: dict[str, float | None]) -> Iterator[BrokenRule]:
    for name, result in estimate.results.items():
        computed = values[name]
        if computed is None and result.value is not None:
            message = f"results.{name} states a value, but an input it needs is not measured yet"
            yield BrokenRule(file=ESTIMATE, rule="wrong-result", message=message)
        elif computed is not None and (result.value is None or not agrees(result.value, computed)):
            stated = "no value" if result.value is None else format_number(result.value)
            message = (
                f"results.{name} states {stated}, `{result.expression}` is {format_number(computed, significant=4)}"
            )
            yield BrokenRule(file=ESTIMATE, rule="wrong-result", message=message)


def _citation_problems(
    exercise: Exercise, estimate: EstimateFile, sources: dict[str, Publication]
) -> Iterator[BrokenRule]:
    cited = {str(given.source) for given in estimate.inputs.values() if given.kind == "cited"}
    for name in PAGES:
        bindings = [binding_of(link) for link in exercise.page(name).links]
        cited |= {binding[1] for binding in bindings if binding and binding[0] == SOURCES}
    for key, source in sources.items():
        if not source.verified and key in cited:
            message = f"`{key}` is cited, but its text was not read (verified = false)"
            yield BrokenRule(file=SOURCES, rule="unverified-source", message=message)
        if key not in cited:
            yield BrokenRule(file=SOURCES, rule="unused-source", message=f"nobody cites `{key}`")


def _target_problems(exercise: Exercise, estimate: EstimateFile) -> Iterator[BrokenRule]:
    bindings = {binding_of(link) for link in exercise.page("03-requirements.md").links}
    for name, target in estimate.targets.items():
        if (ESTIMATE, name) not in bindings:
            yield BrokenRule(
                file=ESTIMATE, rule="unused-target", message=f"03-requirements.md does not state `{name}`"
            )
        if not target.command.strip() or not target.why.strip():
            yield BrokenRule(file=ESTIMATE, rule="bad-target", message=f"targets.{name} needs `why` and `command`")


def _block_problems(exercise: Exercise, estimate: EstimateFile) -> Iterator[BrokenRule]:
    block = block_of(exercise.page("04-estimate.md").text)
    command = f"workbook design estimate {exercise.name} --write"
    if block is None:
        message = "the markers `estimate:begin` and `estimate:end` must stand once, in this order"
        yield BrokenRule(file="04-estimate.md", rule="stale-block", message=message)
    elif block != render_estimate(estimate):
        message = f"the table is not what estimate.toml gives; run `{command}`"
        yield BrokenRule(file="04-estimate.md", rule="stale-block", message=message)


def _binding_problems(
    name: str, link: Link, estimate: EstimateFile, sources: dict[str, Publication]
) -> Iterator[BrokenRule]:
    binding = binding_of(link)
    if binding is None:
        return
    path, key = binding
    numbers = list(numbers_of_text(link.text))
    in_sources = path == SOURCES
    fault = _source_fault(key, numbers, sources) if in_sources else _estimate_fault(key, numbers, estimate)
    if fault:
        rule = "dead-fragment" if fault.startswith("there is no") else "wrong-number"
        yield BrokenRule(file=name, line=link.line, rule=rule, message=f"[{link.text}]({link.target}): {fault}")


def _source_fault(key: str, numbers: list[Number], sources: dict[str, Publication]) -> str | None:
    if key not in sources:
        return f"there is no source `{key}`"
    quoted = list(numbers_of_text(sources[key].quote))
    for number in numbers:
        same_unit = [other for other in quoted if not (number.unit and other.unit and number.unit != other.unit)]
        if not any(other.states(number.value) for other in same_unit):
            return f"the quotation does not say {number.text.strip()}"
    return None


def _estimate_fault(key: str, numbers: list[Number], estimate: EstimateFile) -> str | None:
    entry = estimate.entry(key)
    if entry is None:
        return f"there is no `{key}` in {ESTIMATE}"
    if not numbers:
        return None  # words that point to a number without stating it
    if entry.value is None:
        return f"`{key}` is not measured yet, so no number can be stated"
    return _statement_fault(key, numbers, entry.value, entry.unit)


def _statement_fault(key: str, numbers: list[Number], value: float, unit: str) -> str | None:
    first, *others = numbers
    if any(number.is_quantity for number in others):
        return "one link binds one number"
    if not first.states(value):
        return f"`{key}` is {format_number(value)} {unit}"
    if first.unit is not None and first.unit != canonical_unit(unit):
        return f"`{key}` is in {unit}"
    return None


def _unbound_problems(name: str, page: Page) -> Iterator[BrokenRule]:
    for passage in page.passages:
        for number in quantities_in(passage.text):
            yield _unbound(name, passage, number.text.strip(), "bind it: [93 requests/s](estimate.toml#mean_rate)")
        for link in passage.links:
            for number in [] if binding_of(link) else quantities_in(link.text):
                yield _unbound(name, passage, number.text.strip(), "its link is no binding")
        for code in passage.code:
            if is_bare_quantity(code):
                yield _unbound(name, passage, code, "code spans are for names and commands")


def _unbound(name: str, passage: Passage, number: str, hint: str) -> BrokenRule:
    if passage.kind == "mermaid":
        hint = "a diagram cannot bind a number; say it in the text"
    return BrokenRule(file=name, line=passage.line, rule="unbound-number", message=f"“{number}” is unbound; {hint}")
