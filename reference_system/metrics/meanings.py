"""What a metric means, in one line, for wherever its number first appears.

In: names of metrics as reports spell them (`ndcg@10`, `card_precision@100`). Out: a line for each that has one.
Invariant: the glossary says the same (held by a test), so that one metric has one explanation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

# `k` stands for the number behind the `@`.
MEANINGS: Mapping[str, str] = {
    "average_precision": (
        "the mean, over all frauds, of the share of frauds among the payments scored at least as high;"
        " 1 is a perfect order, the share of frauds is a random one"
    ),
    "roc_auc": "the chance that a positive scores higher than a negative: 1 is perfect, 0.5 is a random order",
    "card_precision@k": "the share of truly compromised cards among the k cards with the highest scores of a day",
    "expected_calibration_error": "by how much scores and shares of positives differ, on average over bins of scores",
    "brier": "the mean squared difference between score and outcome: 0 is perfect",
    "ndcg@k": (
        "what was watched among the first k, higher places counting more: 1 is the best possible order, 0 is none"
    ),
    "recall@k": "the share of what was watched that is among the first k",
    "coverage": "the share of the catalogue that is on at least one list",
    "novelty": "how rarely what is on the lists was watched before, in bits: 1 more is half as often",
    "psi": (
        "population stability index, how far two distributions lie apart: 0 is equal,"
        " 0.1 a small change, above 0.25 a large one"
    ),
}


def meanings_of(names: Iterable[str]) -> tuple[str, ...]:
    """`name: meaning` for each metric that has one, in the order given, each once."""
    found = {}
    for name in names:
        stem, at, k = name.partition("@")
        number = k.partition("_")[0]
        meaning = MEANINGS.get(f"{stem}@k" if at else stem)
        if meaning is not None:
            found[f"{stem}@{number}" if at else stem] = re.sub(r"\bk\b", number, meaning) if at else meaning
    return tuple(f"{name}: {meaning}" for name, meaning in found.items())
