"""One metric has one explanation: what programs print is what the glossary says."""

from __future__ import annotations

from pathlib import Path

import pytest

from reference_system.metrics.meanings import MEANINGS, meanings_of
from reference_system.paths import PROJECT_ROOT

GLOSSARY = Path(PROJECT_ROOT, "docs", "glossary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MEANINGS)
def test_the_glossary_explains_a_metric_as_programs_do(name):
    assert MEANINGS[name] in GLOSSARY


def test_a_meaning_names_the_k_of_its_metric_and_stands_once():
    assert meanings_of(["ndcg@10", "ndcg@10_as_shown", "latency"]) == (
        f"ndcg@10: {MEANINGS['ndcg@k'].replace(' k,', ' 10,')}",
    )
