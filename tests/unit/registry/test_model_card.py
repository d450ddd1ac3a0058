from __future__ import annotations

from reference_system.registry.gate.decision import GateCheck, GateDecision
from reference_system.registry.model_card import Card, markdown


def card(use_case):
    verdict = GateDecision(
        answer="promote",
        reasons=("the first model beats every baseline",),
        metric="ndcg@10",
        challenger=0.0066,
        champion=None,
        against={},
        checks=(
            GateCheck(name="worth of a page", answer="promote", reason="its pages 2.41 (2.01 to 2.79) watches each"),
        ),
    )
    return markdown(
        Card(
            use_case=use_case,
            version="2",
            facts={},
            metrics={"ndcg@10": {"challenger": 0.0066}},
            folds=(),
            slices={},
            importance=(),
            verdict=verdict,
        )
    )


def test_a_rankers_card_says_why_its_ndcg_is_small_and_what_a_page_of_it_brings():
    page = card("recommendation")
    assert "| worth of a page | promote | its pages 2.41 (2.01 to 2.79) watches each |" in page
    after_the_metrics = page[page.index("| ndcg@10 | 0.0066 |") :]
    assert after_the_metrics.split("\n\n")[2].startswith("ndcg@10 is small for every ranker: ")


def test_a_fraud_models_card_says_nothing_of_it():
    assert "is small" not in card("fraud")
