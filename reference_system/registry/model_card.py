"""The model card: what a registered version is, on one page for people.

In: what is known of a version when the gate has answered. Out: Markdown.
Invariant: every number on it was measured in the run that it describes; what was not measured is not on it.
Source of the form: Mitchell et al., Model cards for model reporting, FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reference_system.metrics.meanings import meanings_of
from reference_system.registry.bundles.bundle import UseCase, version_folder
from reference_system.registry.gate.decision import GateDecision

_FOLDER = "cards"
_SHOWN_INPUTS = 10
_INTENDED: Mapping[UseCase, tuple[str, str]] = {
    "fraud": (
        (
            "Scores a card payment at the moment it is made: the probability that its holder will dispute it."
            " The policy turns the score into approve, review or block."
        ),
        (
            "The payments are simulated. Reports of fraud come up to a week late, so it cannot know what began since"
            " its training window ended. It was not judged on other currencies, merchants or countries, and it must"
            " not be the only reason to refuse a customer anything else."
        ),
    ),
    "recommendation": (
        "Orders candidate videos for a viewer by the probability that at least half of each is watched within a day.",
        (
            "The viewers are simulated. Watches of videos that were never shown are unknown; the metrics weigh by how"
            " rarely a video was shown, which helps only as far as pages were drawn by chance."
        ),
    ),
}
# What a reader would take for a fault.
_READING: Mapping[UseCase, str] = {
    "recommendation": (
        "ndcg@10 is small for every ranker: it asks for the very videos that a viewer watched later on pages drawn by"
        " chance, a few of thousands, so read it as a ratio to the others'. What a page of it brings is the check"
        ' "worth of a page", and, once it has answered, in `workbook timeline recommendation`.'
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a card shows.

    `facts` are rows of the first table. `metrics` and `slices` have a value for each column, by name; `folds` are the
    metrics of each prequential fold, the oldest first; `importance` falls.
    """

    use_case: UseCase
    version: str
    facts: Mapping[str, str]
    metrics: Mapping[str, Mapping[str, float]]
    folds: Sequence[Mapping[str, float]]
    slices: Mapping[str, Mapping[str, float]]
    importance: Sequence[tuple[str, float]]
    verdict: GateDecision


def markdown(card: Card) -> str:
    """The page."""
    purpose, limits = _INTENDED[card.use_case]
    parts = [
        f"# {card.use_case}, version {card.version}",
        purpose,
        _table(("", ""), list(card.facts.items())),
        f"## The gate: {card.verdict.answer}",
        "\n".join(f"- {reason}" for reason in card.verdict.reasons),
        _table(
            ("check", "answer", "what was found"),
            [(check.name, check.answer, check.reason) for check in card.verdict.checks],
        ),
        "## What it is worth in the test window",
        _numbers("metric", card.metrics),
        "\n".join(f"- {meaning}" for meaning in meanings_of(card.metrics)),
        *([_READING[card.use_case]] if card.use_case in _READING else []),
    ]
    if card.folds:
        folds = {f"fold {place}": fold for place, fold in enumerate(card.folds, start=1)}
        names = list(card.folds[0])
        by_metric = {name: {fold: values[name] for fold, values in folds.items()} for name in names}
        parts += ["## Prequential folds of the training window", _numbers("metric", by_metric)]
    parts += [
        "## Slices",
        _numbers("slice", card.slices),
        "## What it looks at",
        "The fall of the ROC AUC when an input is shuffled:",
        _table(("input", "fall"), [(name, f"{fall:.4f}") for name, fall in card.importance[:_SHOWN_INPUTS]]),
        "## What it is not for",
        limits,
    ]
    return "\n\n".join(parts) + "\n"


def write_card(root: Path, card: Card) -> str:
    """Keep the page beside the bundles; returns it."""
    text = markdown(card)
    path = _path(root, card.use_case, card.version)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return text


def read_card(root: Path, use_case: str, version: str) -> str | None:
    """The page of a version that was trained here."""
    path = _path(root, use_case, version)
    return path.read_text(encoding="utf-8") if path.exists() else None


def _path(root: Path, use_case: str, version: str) -> Path:
    folder = version_folder(root, use_case, version)
    return folder.parent / _FOLDER / f"{folder.name}.md"


def _numbers(what: str, rows: Mapping[str, Mapping[str, float]]) -> str:
    if not rows:
        return "None was measured."
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    return _table(
        (what, *columns),
        [(name, *(_number(row[column]) if column in row else "" for column in columns)) for name, row in rows.items()],
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
