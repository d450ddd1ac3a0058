"""The gate's other checks, each at its edge."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from tiny_models import tiny_manifest

from reference_system.registry.bundles.bundle import DataWindow
from reference_system.registry.gate import checks
from reference_system.registry.gate.decision import Contenders, GateCheck, conclude_gate, decide_gate

NAMES = ("height", "weight")
GROUPS = 200
RNG = np.random.default_rng(2)
ROWS = RNG.normal(size=(400, 2)).astype(np.float32)
DAY = timedelta(days=1)


def worth(mean, seed=0):
    values = mean + 0.05 * np.random.default_rng(seed).normal(size=GROUPS)

    def of(weights):
        return float(weights @ values / weights.sum())

    return of


def pair(challenger, champion, positives=50):
    return checks.SlicePair(challenger=worth(challenger, 1), champion=worth(champion, 2), positives=positives)


def verdict(champion=0.5):
    contenders = Contenders(
        metric="m",
        groups=GROUPS,
        challenger=worth(0.6),
        champion=None if champion is None else worth(champion, 1),
        baselines={"amount": worth(0.1, 2)},
    )
    return decide_gate(contenders, {"m": 0.6}, seed=1)


def test_a_slice_that_is_surely_much_worse_is_refused_by_its_name():
    found = checks.slice_check({"night": pair(0.3, 0.6), "day": pair(0.7, 0.6)}, GROUPS, seed=1)
    assert found.answer == "refuse"
    assert "night" in found.reason
    assert "day" not in found.reason


def test_a_slice_that_is_somewhat_worse_or_has_few_positives_passes():
    found = checks.slice_check({"night": pair(0.55, 0.6), "new": pair(0.0, 0.6, positives=3)}, GROUPS, seed=1)
    assert found.answer == "promote"
    assert set(found.figures) == {"night"}


def test_the_mature_window_refuses_only_what_is_surely_worse():
    assert checks.mature_check(worth(0.4), worth(0.6), GROUPS, seed=1).answer == "refuse"
    assert checks.mature_check(worth(0.58), worth(0.6), GROUPS, seed=1).answer == "promote"


def test_a_mature_window_without_frauds_is_held():
    nothing = checks.mature_check(lambda _: float("nan"), lambda _: float("nan"), GROUPS, seed=1)
    assert nothing.answer == "hold"


@pytest.mark.parametrize(
    ("error", "champion", "answer"), [(0.02, None, "promote"), (0.04, 0.001, "refuse"), (0.04, 0.03, "promote")]
)
def test_calibration_is_bounded_absolutely_or_by_the_champions(error, champion, answer):
    assert checks.calibration_check("fraud", error, champion).answer == answer


def test_latency_and_size_have_budgets():
    latency, size = checks.cost_checks("fraud", micros=1_001.0, model_bytes=checks.MODEL_BYTES + 1)
    assert (latency.answer, size.answer) == ("refuse", "refuse")
    assert [one.answer for one in checks.cost_checks("fraud", micros=50.0, model_bytes=10)] == ["promote", "promote"]


def test_an_input_that_was_constant_in_training_and_lives_now_is_refused():
    learned = ROWS.copy()
    learned[:, 1] = 0.0
    assert checks.learned_check(NAMES, learned, ROWS).answer == "refuse"
    assert "weight" in checks.learned_check(NAMES, learned, ROWS).reason
    assert checks.learned_check(NAMES, learned, learned).answer == "promote", "it never lived: a constant harms nobody"


def test_an_input_that_is_constant_where_it_is_served_is_refused():
    served = ROWS.copy()
    served[:, 0] = 7.0
    assert "height never changed" in checks.served_check(NAMES, ROWS, served).reason
    few = checks.served_check(NAMES, ROWS[:10], served[:10])
    assert few.answer == "promote"
    assert "only 10" in few.reason


def test_one_input_that_orders_the_outcomes_alone_is_a_leak():
    assert checks.leak_check(NAMES, np.array([0.7, 0.995])).answer == "refuse"
    assert checks.leak_check(NAMES, np.array([0.7, 0.9])).answer == "promote"


def parity(served, ours, theirs):
    scores = np.stack([np.full(len(ROWS), ours), np.full(len(ROWS), theirs)])
    return checks.parity_check(NAMES, (ROWS, served), scores, what="judged")


def test_rows_that_were_served_differently_from_history_are_refused():
    served = ROWS.copy()
    served[:, 0] *= 100.0
    assert parity(served, 0.01, 0.01).answer == "refuse", "the input differs in every row"
    assert parity(ROWS, 0.01, 0.10).answer == "refuse", "the score does"
    assert parity(ROWS, 0.01, 0.012).answer == "promote"


def manifest(version="2", **changes):
    base = tiny_manifest()
    window = DataWindow(start=base.created_timestamp - 49 * DAY, end=base.created_timestamp - 21 * DAY)
    return tiny_manifest(version=version, **({"data_window": window, "data_digest": f"d{version}"} | changes))


def test_a_model_whose_newest_row_is_old_is_refused():
    now = manifest().created_timestamp
    assert checks.staleness_check(manifest(), None, newest_row=now - 29 * DAY, gap=21 * DAY).answer == "refuse"
    assert checks.staleness_check(manifest(), None, newest_row=now - 22 * DAY, gap=21 * DAY).answer == "promote"


def test_a_model_from_the_champions_rows_or_older_ones_is_held():
    newest = manifest().created_timestamp - 21 * DAY

    def answer(champion):
        return checks.staleness_check(manifest(), champion, newest_row=newest, gap=21 * DAY).answer

    assert answer(manifest("1", data_digest="d2")) == "hold"
    assert answer(manifest("1")) == "promote"
    later = DataWindow(start=newest, end=newest + DAY)
    assert answer(manifest("1", data_window=later)) == "hold"


def test_what_was_rolled_back_does_not_come_again_under_another_number():
    assert checks.again_check(manifest(), [manifest("1", data_digest="d2")]).answer == "refuse"
    assert checks.again_check(manifest(files={"a": "b"}), [manifest("1", files={"a": "b"})]).answer == "refuse"
    window = manifest().data_window
    hours_before = DataWindow(start=window.start - DAY, end=window.end - DAY)
    again = checks.again_check(manifest(files={"a": "b"}), [manifest("1", data_window=hours_before)])
    assert (again.answer, round(again.figures["overlap"], 2)) == ("hold", 0.96)
    days_before = DataWindow(start=window.start - 5 * DAY, end=window.end - 5 * DAY)
    assert checks.again_check(manifest(files={"a": "b"}), [manifest("1", data_window=days_before)]).answer == "promote"


def test_the_worst_answer_wins_and_its_reason_comes_first():
    held = GateCheck(name="release", answer="hold", reason="busy")
    refused = GateCheck(name="size", answer="refuse", reason="too large")
    passed = GateCheck(name="leak", answer="promote", reason="none")
    found = conclude_gate(verdict(), [passed, held, refused])
    assert found.answer == "refuse"
    assert found.reasons[:2] == ("size: too large", "release: busy")
    assert conclude_gate(verdict(), [passed]).answer == "promote"
    assert conclude_gate(verdict(), [held]).answer == "hold"


def test_a_first_model_may_have_doubts_but_nothing_that_must_be_refused():
    held = GateCheck(name="slices", answer="hold", reason="unclear")
    refused = GateCheck(name="leak", answer="refuse", reason="it knows")
    assert conclude_gate(verdict(champion=None), [held]).answer == "promote"
    assert conclude_gate(verdict(champion=None), [refused]).answer == "refuse"


def page_worth(challenger=(2.0, 2.4, 2.8), **more):
    return checks.page_worth_check(
        checks.PageWorth(pages=870, challenger=challenger, by_chance=(0.7, 0.8, 0.9), **more)
    )


def test_the_worth_of_a_page_is_told_off_policy_for_both_beside_what_was_served_and_what_chance_brought():
    found = page_worth(champion=(1.9, 2.3, 2.7), difference=(-0.2, 0.1, 0.4), served=(2.5, 2.55, 2.6))
    assert found.answer == "promote"
    assert found.reason == (
        "by 870 pages drawn by chance: its pages 2.40 (2.00 to 2.80) watches each, the champion's 2.30 (1.90 to 2.70),"
        " difference +0.10 (-0.20 to +0.40); those brought 0.80 (0.70 to 0.90), pages that the champion served"
        " 2.55 (2.50 to 2.60)"
    )
    assert found.figures["difference, low"] == -0.2
    assert found.figures["served, high"] == 2.6


def test_the_first_ranker_is_set_beside_chance_alone():
    found = page_worth()
    assert found.answer == "promote"
    assert "champion" not in found.reason
    assert set(found.figures) == {
        f"{who}, {what}" for who in ("challenger", "by_chance") for what in ("low", "value", "high")
    }


@pytest.mark.parametrize(
    ("high", "answer"),
    [(-0.05 * 2.3 + 0.01, "promote"), (-0.05 * 2.3 - 0.01, "refuse")],
)
def test_a_ranker_whose_pages_are_surely_worth_less_than_the_champions_is_refused(high, answer):
    found = page_worth(champion=(1.9, 2.3, 2.7), difference=(-1.0, -0.5, high))
    assert found.answer == answer


def test_a_ranker_whose_pages_are_surely_worth_less_than_chance_is_refused():
    found = page_worth(challenger=(0.1, 0.3, 0.69))
    assert found.answer == "refuse"
    assert found.reason.startswith("surely worth less than pages drawn by chance: ")
    assert page_worth(challenger=(0.1, 0.3, 0.71)).answer == "promote"


def test_too_few_pages_to_say_what_one_is_worth_stop_nobody_and_are_told():
    found = checks.page_worth_check(None, why_not="12 logged places match")
    assert (found.answer, found.reason) == ("promote", "nothing can be said of it: 12 logged places match")
