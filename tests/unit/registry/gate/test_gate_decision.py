"""The promotion gate: what is surely better is promoted, what differs by chance is held, what is worse is refused."""

from __future__ import annotations

import math
from datetime import timedelta

import numpy as np
import pytest

from reference_system.registry.gate.decision import OLD_AFTER, Contenders, decide_gate

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


def answer(challenger, champion=None, baseline=0.2, metrics=None, newer=timedelta(0)):
    contenders = Contenders(
        metric="ndcg@10",
        groups=GROUPS,
        challenger=challenger,
        champion=champion,
        baselines={"popularity": worth(baseline)},
        newer=newer,
    )
    return decide_gate(contenders, metrics or {"ndcg@10": 0.5}, seed=1)


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


def test_a_challenger_that_is_surely_better_is_promoted_with_by_how_much():
    verdict = answer(worth(0.6), worth(0.5))
    assert verdict.answer == "promote"
    assert verdict.reasons[0].startswith("better than the champion by +0.1000 (90 % interval +0.1000 to ")


@pytest.mark.parametrize("mean", [0.505, 0.495])
def test_a_challenger_that_differs_from_the_champion_by_chance_is_held_as_no_better_with_the_figures(mean):
    verdict = answer(worth(mean, noise=0.1), worth(0.5))
    interval = verdict.against["champion"]
    assert interval.low < 0.0 < interval.high
    assert verdict.answer == "hold"
    assert verdict.reasons[0] == f"no better than the champion: the difference, {interval}, may be chance"


def test_of_challengers_that_are_as_good_as_the_champion_no_more_than_chance_allows_are_promoted():
    rng = np.random.default_rng(11)
    answers = []
    for _ in range(100):
        own = rng.normal(0.0, 0.1, GROUPS)

        def challenger(weights, own=own):
            return float(weights @ (0.5 + HARDNESS + own) / weights.sum())

        answers.append(answer(challenger, lambda weights: float(weights @ (0.5 + HARDNESS) / weights.sum())).answer)
    assert set(answers) == {"hold", "promote"}
    assert answers.count("promote") <= 10  # about 5: one end of a 90 % interval


def test_a_champion_that_has_grown_old_gives_way_to_one_that_is_not_worse():
    challenger = worth(0.495, noise=0.1)
    assert answer(challenger, worth(0.5), newer=OLD_AFTER - timedelta(hours=1)).answer == "hold"
    verdict = answer(challenger, worth(0.5), newer=OLD_AFTER)
    assert verdict.answer == "promote"
    assert verdict.reasons[0].startswith("the champion has grown old: its training ends 28 days earlier; not worse by")


@pytest.mark.parametrize(("mean", "noise"), [(0.48, 0.0), (0.47, 1.0)])
def test_a_champion_that_has_grown_old_gives_way_to_none_that_is_surely_worse_or_may_be_much_worse(mean, noise):
    assert answer(worth(mean, noise=noise), worth(0.5), newer=2 * OLD_AFTER).answer == "hold"


def test_a_challenger_that_is_surely_a_little_worse_is_held():
    # Worse by 0.02 of 0.5, tolerance 0.025, and the bootstrap is certain.
    assert answer(worth(0.48), worth(0.5)).answer == "hold"


def test_a_challenger_that_may_be_much_worse_is_held():
    assert answer(worth(0.47, noise=1.0), worth(0.5)).answer == "hold"


def test_a_much_worse_challenger_is_refused():
    verdict = answer(worth(0.4), worth(0.5))
    assert verdict.answer == "refuse"
    assert "worse than the champion by more than 0.0250" in verdict.reasons[0]


def test_a_challenger_that_answers_as_the_champion_does_is_held_however_old_that_is():
    for newer in (timedelta(0), 2 * OLD_AFTER):
        verdict = answer(worth(0.5), worth(0.5), newer=newer)
        assert verdict.answer == "hold"
        assert verdict.reasons[0] == "no better than the champion: it answers exactly as the champion does"


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
