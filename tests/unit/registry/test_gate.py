"""The promotion gate: better or as good is promoted, unclear is held, worse is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reference_system.registry.gate import Contenders, decide

GROUPS = 400
RNG = np.random.default_rng(3)
HARDNESS = RNG.normal(0.0, 0.2, GROUPS)


def worth(mean, noise=0.0, seed=0):
    """A metric that is a weighted mean over groups; `noise` is what a model has of its own."""
    values = mean + HARDNESS + noise * np.random.default_rng(seed).normal(size=GROUPS)
    values = values - values.mean() + mean

    def of(weights):
        return float(weights @ values / weights.sum())

    return of


def answer(challenger, champion=None, baseline=0.2, metrics=None):
    contenders = Contenders(
        metric="ndcg@10",
        groups=GROUPS,
        challenger=challenger,
        champion=champion,
        baselines={"popularity": worth(baseline)},
    )
    return decide(contenders, metrics or {"ndcg@10": 0.5}, seed=1)


def test_a_first_model_that_beats_the_baseline_is_promoted():
    verdict = answer(worth(0.5))
    assert verdict.answer == "promote"
    assert verdict.champion is None
    assert verdict.against["popularity"].difference == pytest.approx(0.3)


def test_a_first_model_that_does_not_beat_the_baseline_is_refused_by_its_name():
    verdict = answer(worth(0.19))
    assert verdict.answer == "refuse"
    assert verdict.reasons[0] == "does not beat popularity"


def test_a_first_model_that_may_not_beat_the_baseline_is_promoted_with_the_doubt():
    verdict = answer(worth(0.199, noise=0.1))
    assert verdict.answer == "promote"
    assert verdict.reasons[0] == "the first model; it may not beat popularity"


def test_a_later_model_that_may_not_beat_the_baseline_is_held():
    assert answer(worth(0.199, noise=0.1), worth(0.1)).answer == "hold"


def test_a_better_challenger_is_promoted():
    assert answer(worth(0.6), worth(0.5)).answer == "promote"


def test_a_challenger_that_is_worse_by_less_than_chance_and_tolerance_is_promoted_because_it_is_fresher():
    assert answer(worth(0.495, noise=0.1), worth(0.5)).answer == "promote"


def test_a_challenger_that_is_surely_a_little_worse_is_held():
    # Worse by 0.02 of 0.5, tolerance 0.025, and the bootstrap is certain.
    assert answer(worth(0.48), worth(0.5)).answer == "hold"


def test_a_challenger_that_may_be_much_worse_is_held():
    assert answer(worth(0.47, noise=1.0), worth(0.5)).answer == "hold"


def test_a_much_worse_challenger_is_refused():
    verdict = answer(worth(0.4), worth(0.5))
    assert verdict.answer == "refuse"
    assert "worse than the champion by more than 0.0250" in verdict.reasons[0]


def test_a_challenger_that_answers_as_the_champion_does_is_held():
    assert answer(worth(0.5), worth(0.5)).answer == "hold"


def test_a_challenger_better_than_the_champion_but_not_than_the_baseline_is_refused():
    assert answer(worth(0.3), worth(0.2), baseline=0.4).answer == "refuse"


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_metric_that_is_no_number_is_refused_whatever_the_others_say(broken):
    verdict = answer(worth(0.9), metrics={"ndcg@10": 0.9, "coverage": broken})
    assert verdict.answer == "refuse"
    assert "coverage" in verdict.reasons[0]


def test_a_primary_metric_that_is_no_number_is_refused():
    assert answer(lambda _: math.nan).answer == "refuse"


def test_the_same_seed_gives_the_same_verdict():
    assert answer(worth(0.51, 0.1), worth(0.5)) == answer(worth(0.51, 0.1), worth(0.5))


def test_the_bootstrap_is_paired_what_is_hard_for_both_cancels_out():
    interval = answer(worth(0.52, 0.01), worth(0.5)).against["champion"]
    assert interval.high - interval.low < 0.005
    assert interval.low < interval.difference < interval.high


def test_of_a_hundred_planted_bad_challengers_none_is_promoted():
    champion = worth(0.5)
    answers = {answer(worth(0.4, noise=0.05, seed=seed), champion).answer for seed in range(100)}
    assert "promote" not in answers
