"""Every exercise of the workbook passes its check, and the check catches what it is there for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from reference_system import cli
from reference_system.workbook.checks import check_exercise
from reference_system.workbook.exercise import PAGES, TEMPLATE, Exercise, designs_folder, find_exercises
from reference_system.workbook.markdown_page import parse_page
from reference_system.workbook.structure_checks import ANSWER_HEADINGS

PUBLISHED = ("fraud_detection", "real_time_serving", "recommendation")
EXERCISES = [*(exercise.name for exercise in find_exercises(designs_folder())), TEMPLATE]


@pytest.mark.parametrize("name", EXERCISES)
def test_the_exercise_passes_its_check(name: str) -> None:
    problems = check_exercise(Exercise(designs_folder() / name))

    assert [problem.for_person(name) for problem in problems] == []


def test_the_three_exercises_are_there() -> None:
    assert set(PUBLISHED) <= set(EXERCISES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_index_shows_the_exercise_with_its_level_and_minutes(name: str) -> None:
    facts = Exercise(designs_folder() / name).facts
    (row,) = [line for line in index().splitlines() if f"]({name}/README.md)" in line]

    assert [cell.strip() for cell in row.split("|")[2:4]] == [facts["Level"], facts["Minutes"]]


def test_the_index_has_no_dead_link_and_leads_to_the_template() -> None:
    targets = [link.target for link in parse_page(index()).links]

    assert f"{TEMPLATE}/README.md" in targets
    assert [target for target in targets if not (designs_folder() / target).exists()] == []


def index() -> str:
    return (designs_folder() / "README.md").read_text(encoding="utf-8")


# The planted faults: one at a time, into a finished exercise (see conftest.py).

SOURCE = """
[paper]
quote = "P95 latency of less than 5 milliseconds (ms)"
publication = "A paper"
author = "Its author"
address = "https://example.org/paper"
date = "2017"
verified = true
"""


def test_the_sample_without_a_fault_passes(sample) -> None:
    assert sample.rules() == set()


def test_a_true_citation_passes(sample) -> None:
    sample.append("sources.toml", SOURCE)
    sample.append("05-answer.md", "\nOthers state [under 5 ms](sources.toml#paper).\n")

    assert sample.rules() == set()


# What is changed in which file, and the rule that must speak.
EDITS = {
    "a result is wrong": ("estimate.toml", "value = 23.1", "value = 24.1", "wrong-result"),
    "a result is not stated": ("estimate.toml", "value = 23.1\n", "", "wrong-result"),
    "a result reads what is not there": ("estimate.toml", "daily_requests / 86400", "daily / 86400", "bad-toml"),
    "a result is code": ("estimate.toml", "daily_requests / 86400", "open('x')", "bad-toml"),
    "the file is no TOML": ("estimate.toml", "[inputs.daily_requests]", "[inputs", "bad-toml"),
    "an unmeasured value is stated": ("estimate.toml", 'unit = "cores"', 'unit = "cores"\nvalue = 1', "wrong-result"),
    "an assumption has no reason": (
        "estimate.toml",
        'why = "Busy hour against the mean of the day."',
        "",
        "bad-input",
    ),
    "a measurement has no run": ("estimate.toml", 'unit = "ms"\nkind', 'unit = "ms"\nvalue = 3\nkind', "bad-input"),
    "a run is not there": (
        "estimate.toml",
        'unit = "ms"\nkind',
        'unit = "ms"\nvalue = 3\nrun = "runs/1.json"\nkind',
        "bad-input",
    ),
    "the table is stale": ("estimate.toml", "One process would do", "Two processes would do", "stale-block"),
    "the markers are gone": ("04-estimate.md", "<!-- estimate:end -->", "", "stale-block"),
    "a linked number is wrong": ("04-estimate.md", "[23 requests/s]", "[24 requests/s]", "wrong-number"),
    "a linked unit is wrong": ("03-requirements.md", "[100 ms]", "[100 s]", "wrong-number"),
    "a link binds two numbers": ("04-estimate.md", "[23 requests/s]", "[23 requests/s in 24 h]", "wrong-number"),
    "a link states what is not measured": (
        "04-estimate.md",
        "[not known before",
        "[3, not known before",
        "wrong-number",
    ),
    "a fragment is dead": ("04-estimate.md", "estimate.toml#mean_rate", "estimate.toml#mean", "dead-fragment"),
    "a target is not stated": ("03-requirements.md", "estimate.toml#p99_latency", "04-estimate.md", "unused-target"),
    "a file is dead": ("README.md", "05-answer.md", "05-answers.md", "dead-link"),
    "a heading is dead": ("README.md", "05-answer.md", "05-answer.md#no-such", "dead-link"),
    "a link leaves the repository": ("README.md", "05-answer.md", "../../../secrets", "dead-link"),
    "an answer heading is missing": ("05-answer.md", "## Degradation", "## Fallbacks", "missing-heading"),
    "an answer heading stands twice": ("05-answer.md", "## Degradation", "## Cost", "missing-heading"),
    "an answer heading is reworded": ("05-answer.md", "## Framing", "## Framing of it", "missing-heading"),
    "a section is empty": ("05-answer.md", "\n## Cost\n", "\n## Cost\n\n## And more\n", "empty-section"),
    "the worksheet is gone": ("01-prompt.md", "## Worksheet", "## Notes", "missing-heading"),
    "the fact card is gone": ("02-clarify.md", "Fact card", "Facts", "missing-heading"),
    "the prompt has an answer heading": (
        "01-prompt.md",
        "## Worksheet",
        "## Worksheet\n\n### Framing",
        "answer-in-prompt",
    ),
    "the prompt leads to the answer": (
        "01-prompt.md",
        "Set a timer.",
        "See [this](05-answer.md).",
        "answer-in-prompt",
    ),
    "the level is not stated": ("README.md", "**Level:**", "**For:**", "missing-fact"),
    "guidance is left": ("05-answer.md", "Written: who decides", "> Write: who decides", "guidance-left"),
}


@pytest.mark.parametrize("fault", EDITS)
def test_a_planted_fault_is_caught(sample, fault: str) -> None:
    file, before, after, rule = EDITS[fault]
    if fault == "the fact card is gone":
        sample.edit(file, "## Fact card", "## Facts")
        before, after = "<summary>Fact card", "<summary>Facts"
    sample.edit(file, before, after)

    assert rule in sample.rules()


def test_two_answer_headings_in_the_wrong_order_are_caught(sample) -> None:
    sample.edit("05-answer.md", "## Framing", "## X")
    sample.edit("05-answer.md", "## Features", "## Framing")
    sample.edit("05-answer.md", "## X", "## Features")

    assert sample.rules() == {"heading-order"}


UNBOUND = [
    "It answers in 100 ms.",
    "It serves 5,000 customers.",
    "It costs 3 % more.",
    "It answers in **100** ms.",
    "See [the 100 ms budget](03-requirements.md).",
    "It answers in `100 ms`.",
    "- an item\n  of 30 days\n",
    "| a |\n|---|\n| 12 GB |\n",
    "> quoted: 12 GB\n",
    "## Within 12 GB\n\ntext",
    "<details>\n<summary>12 GB</summary>\n</details>\n",
    "```mermaid\nflowchart LR\n  a -- 20 ms --> b\n```\n",
]


@pytest.mark.parametrize("text", UNBOUND)
@pytest.mark.parametrize("file", ["03-requirements.md", "04-estimate.md", "05-answer.md"])
def test_an_unbound_quantity_is_caught_wherever_it_stands(sample, file: str, text: str) -> None:
    sample.append(file, f"\n\n{text}\n")

    assert sample.rules() == {"unbound-number"}


@pytest.mark.parametrize(
    "text",
    ["It has 3 tiers, since 2017.", "Run `make load --rate 500`.", "```sh\nsleep 1000\n```", "p99, V0 and HTTP 429."],
)
def test_what_is_no_quantity_needs_no_binding(sample, text: str) -> None:
    sample.append("05-answer.md", f"\n\n{text}\n")

    assert sample.rules() == set()


def cited(exercise, words: str, source: str = SOURCE) -> set[str]:
    exercise.append("sources.toml", source)
    exercise.append("05-answer.md", f"\nOthers state [{words}](sources.toml#paper).\n")
    return exercise.rules()


def test_a_citation_of_an_unverified_source_is_caught(sample) -> None:
    assert cited(sample, "5 ms", SOURCE.replace("true", "false")) == {"unverified-source"}


def test_a_citation_that_says_more_than_the_quotation_is_caught(sample) -> None:
    assert cited(sample, "4 ms") == {"wrong-number"}


def test_a_citation_in_another_unit_than_the_quotation_is_caught(sample) -> None:
    assert cited(sample, "5 s") == {"wrong-number"}


def test_a_source_without_an_address_is_caught(sample) -> None:
    assert "bad-toml" in cited(sample, "5 ms", SOURCE.replace("address", "link"))


def test_a_source_that_nobody_cites_is_caught(sample) -> None:
    sample.append("sources.toml", SOURCE)

    assert sample.rules() == {"unused-source"}


@pytest.mark.parametrize(("value", "expected"), [(5, set()), (6, {"bad-input"})])
def test_a_cited_input_must_stand_in_the_quotation(sample, value: int, expected: set[str]) -> None:
    sample.append("sources.toml", SOURCE)
    cited_input = f'[inputs.others]\nvalue = {value}\nunit = "ms"\nkind = "cited"\nsource = "paper"\n\n'
    sample.edit("estimate.toml", "[inputs.daily_requests]", cited_input + "[inputs.daily_requests]")
    sample.refresh()

    assert sample.rules() == expected


FILE_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a stray file": (lambda folder: (folder / "notes.md").write_text("x"), "stray-file"),
    "a stray folder": (lambda folder: (folder / "drafts").mkdir(), "stray-file"),
    "an empty page": (lambda folder: (folder / "05-answer.md").write_text("\n"), "empty-file"),
    "a page with a title only": (lambda folder: (folder / "02-clarify.md").write_text("# Clarify\n"), "empty-file"),
    "an empty estimate": (lambda folder: (folder / "estimate.toml").write_text(""), "empty-file"),
    "a missing page": (lambda folder: (folder / "01-prompt.md").unlink(), "missing-file"),
    "a missing estimate": (lambda folder: (folder / "estimate.toml").unlink(), "missing-file"),
    "a page in another encoding": (lambda folder: (folder / "README.md").write_bytes(b"\xff\xfe" * 100), "no-text"),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_a_faulty_folder_is_caught(sample, fault: str) -> None:
    plant, rule = FILE_FAULTS[fault]
    plant(sample.folder)

    assert rule in sample.rules()


def test_a_new_exercise_fails_only_by_the_guidance_it_has_to_replace(sample) -> None:
    shutil.rmtree(sample.folder)
    shutil.copytree(designs_folder() / TEMPLATE, sample.folder)

    assert sample.rules() == {"guidance-left"}


def test_the_template_shows_every_answer_heading_once() -> None:
    headings = [heading.text for heading in Exercise(designs_folder() / TEMPLATE).page("05-answer.md").headings]

    assert [heading for heading in headings if heading in ANSWER_HEADINGS] == list(ANSWER_HEADINGS)


# What the pages tell the reader to type.

_TYPED = re.compile(r"(?:^|`)((?:make|workbook) [a-z][a-z-]*(?: [a-z][a-z-]*)?)", re.MULTILINE)


def typed_commands(exercise: Exercise) -> set[str]:
    texts = [token.content for name in PAGES for token in exercise.page(name).tokens if token.type == "fence"]
    texts += [f"`{code}" for name in PAGES for passage in exercise.page(name).passages for code in passage.code]
    texts += [f"`{target.command}" for target in exercise.estimate.targets.values()]
    texts += [f"`{given.command}" for given in exercise.estimate.inputs.values() if given.command]
    return {command for text in texts for command in _TYPED.findall(text)}


def exists(command: str) -> bool:
    program, *words = command.split()
    if program == "make":
        makefile = (designs_folder().parent / "Makefile").read_text(encoding="utf-8")
        return re.search(rf"^{words[0]}:", makefile, re.MULTILINE) is not None
    found: object = get_command(cli.app)
    for word in words:
        if not isinstance(found, TyperGroup):
            return True  # what follows is an argument
        found = found.commands.get(word)
        if found is None:
            return False
    return True


@pytest.mark.parametrize("name", EXERCISES)
def test_every_command_that_a_page_names_exists(name: str) -> None:
    commands = typed_commands(Exercise(designs_folder() / name))

    assert commands
    assert {command for command in commands if not exists(command)} == set()


@pytest.mark.parametrize("command", ["make nonsense", "workbook nonsense", "workbook design nonsense"])
def test_a_command_that_does_not_exist_is_recognised(command: str) -> None:
    assert not exists(command)
