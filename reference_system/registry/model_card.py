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
from reference_system.registry.bundles.bundle import version_folder
from reference_system.registry.gate.decision import GateDecision
from reference_system.use_case import UseCase
from reference_system.use_cases import DECLARATIONS

_FOLDER = "cards"
_SHOWN_INPUTS = 10


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
    texts = DECLARATIONS[card.use_case].card
    parts = [
        f"# {card.use_case}, version {card.version}",
        texts.purpose,
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
        *([texts.reading] if texts.reading else []),
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
        texts.limits,
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
