"""Are all files there, and does each hold what a reader comes for?

In: an exercise. Out: problems of files, headings and links between pages.
Invariant: the prompt never shows the answer; a heading is never empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from reference_system.workbook.exercise import (
    FACTS,
    FILES,
    PAGES,
    TEMPLATE,
    Exercise,
    facts_in,
    repository_of,
)
from reference_system.workbook.markdown_page import Link, Page, parse_page
from reference_system.workbook.problems import BrokenRule

ANSWER_HEADINGS = (
    "The decision to be made",
    "Is ML needed",
    "Framing",
    "Metrics and the cost of errors",
    "Data and labels",
    "Features",
    "The ladder of baselines",
    "V0 to V2",
    "The critical path",
    "Rollout and A/B test",
    "Monitoring",
    "Degradation",
    "Cost",
    "When this answer changes",
    "The two-minute answer",
)
# Words that must stand in some heading (in a summary for the folded card) of the page.
_LANDMARKS = {
    "01-prompt.md": ("worksheet",),
    "02-clarify.md": ("fact card",),
    "03-requirements.md": ("functional", "non-functional", "out of scope"),
    "04-estimate.md": ("which number changed the design",),
}
_SOLUTION = ("03-requirements.md", "04-estimate.md", "05-answer.md", "estimate.toml", "sources.toml")
_FULL_SECTIONS = ("02-clarify.md", "03-requirements.md", "04-estimate.md", "05-answer.md")
_GUIDANCE = "Write:"
_SHORTEST_PAGE = 80  # characters; less is a heading and a promise


def structure_problems(exercise: Exercise) -> Iterator[BrokenRule]:
    """Everything that is wrong with the folder's shape."""
    problems = list(_file_problems(exercise))
    yield from problems
    broken = {problem.file for problem in problems}
    checks = (_fact_problems, _landmark_problems, _answer_problems, _prompt_problems, _section_problems)
    for name in PAGES:
        if name in broken:
            continue  # a page that is not there has one problem, not ten
        page = exercise.page(name)
        for check in checks:
            yield from check(name, page)
        yield from _link_problems(exercise, name, page)
        if exercise.name != TEMPLATE:
            yield from _guidance_problems(name, page)


def _file_problems(exercise: Exercise) -> Iterator[BrokenRule]:
    there = {path.name: path for path in exercise.folder.iterdir() if not path.name.startswith(".")}
    for name in FILES:
        path = there.pop(name, None)
        if path is None or not path.is_file():
            yield BrokenRule(file=name, rule="missing-file", message="the file is missing")
        elif len(path.read_bytes().strip()) < (_SHORTEST_PAGE if name in PAGES else 1):
            yield BrokenRule(file=name, rule="empty-file", message="the file is empty, or as good as empty")
        elif not _is_utf8(path):
            yield BrokenRule(file=name, rule="no-text", message="the file is not UTF-8 text")
    for name in sorted(there):
        yield BrokenRule(file=name, rule="stray-file", message="no such file belongs to an exercise")


def _is_utf8(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _fact_problems(name: str, page: Page) -> Iterator[BrokenRule]:
    if name == "README.md":
        for key in sorted(FACTS - facts_in(page).keys()):
            yield BrokenRule(file=name, rule="missing-fact", message=f"a line `{key}: …` is missing")


def _landmark_problems(name: str, page: Page) -> Iterator[BrokenRule]:
    titles = [heading.text.lower() for heading in page.headings]
    titles += [passage.text.lower() for passage in page.passages if passage.kind == "html"]
    for landmark in _LANDMARKS.get(name, ()):
        if not any(landmark in title for title in titles):
            yield BrokenRule(file=name, rule="missing-heading", message=f"no heading contains “{landmark}”")


def _answer_problems(name: str, page: Page) -> Iterator[BrokenRule]:
    if name != "05-answer.md":
        return
    found = [(heading.text, heading.line) for heading in page.headings if heading.text in ANSWER_HEADINGS]
    titles = [title for title, _ in found]
    for title in ANSWER_HEADINGS:
        if titles.count(title) != 1:
            message = f"the heading “{title}” must stand once, not {titles.count(title)} times"
            yield BrokenRule(file=name, rule="missing-heading", message=message)
    places = [ANSWER_HEADINGS.index(title) for title in titles]
    for index, (title, line) in enumerate(found[1:], start=1):
        if places[index] < places[index - 1]:
            message = f"“{title}” stands after “{titles[index - 1]}”"
            yield BrokenRule(file=name, line=line, rule="heading-order", message=message)


def _prompt_problems(name: str, page: Page) -> Iterator[BrokenRule]:
    if name != "01-prompt.md":
        return
    answers = {title.lower() for title in ANSWER_HEADINGS}
    for heading in page.headings:
        if heading.text.lower() in answers:
            message = f"the prompt shows a heading of the answer: “{heading.text}”"
            yield BrokenRule(file=name, line=heading.line, rule="answer-in-prompt", message=message)
    for link in page.links:
        if link.target.partition("#")[0].removeprefix("./") in _SOLUTION:
            message = f"the prompt leads to the solution: {link.target}"
            yield BrokenRule(file=name, line=link.line, rule="answer-in-prompt", message=message)


def _section_problems(name: str, page: Page) -> Iterator[BrokenRule]:
    if name not in _FULL_SECTIONS:
        return  # a worksheet has room to write
    for heading in page.headings:
        if not heading.has_body:
            message = f"nothing stands under “{heading.text}”"
            yield BrokenRule(file=name, line=heading.line, rule="empty-section", message=message)


def _guidance_problems(name: str, page: Page) -> Iterator[BrokenRule]:
    for passage in page.passages:
        if passage.quoted and passage.text.startswith(_GUIDANCE):
            message = "still the template's guidance; replace it by your own text"
            yield BrokenRule(file=name, line=passage.line, rule="guidance-left", message=message)


def _link_problems(exercise: Exercise, name: str, page: Page) -> Iterator[BrokenRule]:
    for link in page.links:
        fault = _fault_of(exercise.folder, link, page)
        if fault:
            yield BrokenRule(file=name, line=link.line, rule="dead-link", message=f"{link.target}: {fault}")


def _fault_of(folder: Path, link: Link, page: Page) -> str | None:
    if link.target.startswith(("https://", "http://")):
        return None  # addresses outside are never fetched by a check
    path_text, _, fragment = unquote(link.target).partition("#")
    path = (folder / path_text).resolve() if path_text else None
    if path is not None and not path.is_relative_to(repository_of(folder)):
        return "leads out of the repository"
    if path is not None and not path.exists():
        return "there is no such file"
    if not fragment or (path is not None and path.suffix != ".md"):
        return None  # fragments of TOML files are checked with the numbers they bind
    anchors = page.anchors if path is None else parse_page(path.read_text(encoding="utf-8")).anchors
    return None if fragment in anchors else "there is no such heading"
