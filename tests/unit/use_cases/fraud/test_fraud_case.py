"""Fraud: the request's inputs, the label's maturity and the policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from reference_system.use_cases.fraud import features, labels, model, policy

SATURDAY = datetime(2025, 1, 11, tzinfo=UTC)


def test_the_model_has_the_fifteen_inputs_of_the_handbook():
    assert len(features.INPUTS) == len(set(features.INPUTS)) == 15


@pytest.mark.parametrize(
    ("moment", "weekend", "night"),
    [
        (SATURDAY, 1, 1),
        (SATURDAY + timedelta(days=1, hours=23), 1, 0),
        (SATURDAY + timedelta(days=2, hours=6, minutes=59), 0, 1),
        (SATURDAY + timedelta(days=2, hours=7), 0, 0),
    ],
)
def test_weekend_is_saturday_and_sunday_and_night_ends_with_hour_six(moment, weekend, night):
    assert features.request_inputs(12.5, moment) == (12.5, weekend, night)


def test_model_inputs_come_in_the_order_of_the_signature():
    customer, terminal = np.arange(6.0), np.arange(10.0, 16.0)
    row = dict(zip(features.INPUTS, features.model_inputs(9.0, SATURDAY, customer, terminal), strict=True))
    assert row["amount"] == 9.0
    assert row["customer_transaction_count_1d"] == 0.0
    assert row["customer_mean_amount_30d"] == 5.0
    assert row["terminal_fraud_rate_30d"] == 15.0


def test_a_label_matures_exactly_when_the_delay_has_passed():
    due = SATURDAY + labels.LABEL_DELAY
    assert labels.is_mature(SATURDAY, as_of=due)
    assert not labels.is_mature(SATURDAY, as_of=due - timedelta(microseconds=1))


def test_the_decision_follows_the_thresholds_and_a_threshold_belongs_to_the_stricter_side():
    thresholds = policy.Thresholds(review=0.3, block=0.9)
    assert [policy.decide(score, thresholds) for score in (0.29, 0.3, 0.89, 0.9)] == [
        "approve",
        "review",
        "review",
        "block",
    ]


def test_without_features_large_amounts_are_reviewed_and_nothing_is_blocked():
    assert policy.decide_degraded(policy.DEGRADED_REVIEW_AMOUNT) == "approve"
    assert policy.decide_degraded(policy.DEGRADED_REVIEW_AMOUNT + 0.01) == "review"


def test_reasons_are_sentences_the_most_unusual_input_first():
    names = ("amount", "is_weekend", "customer_transaction_count_1d", "terminal_fraud_rate_7d")
    said = policy.reasons(np.array([250.0, 1.0, 7.0, 0.33]), np.array([220.5, 1.0, 4.0, 0.1]), names)
    assert said == (
        "33 % frauds at this terminal in 7 days of known outcomes; at most 10 % in 99 % of genuine payments",
        "7 payments by this card in a day; at most 4 in 99 % of genuine payments",
        "250.00 to pay; at most 220.50 in 99 % of genuine payments",
    )


def test_every_input_has_words_and_at_most_three_are_said():
    everything, nothing = np.full(15, 2.0), np.zeros(15)
    assert len(policy.reasons(everything, nothing, features.INPUTS)) == 3
    for place, name in enumerate(features.INPUTS):
        (reason,) = policy.reasons(np.eye(15)[place], nothing, features.INPUTS)
        assert name not in reason
    assert policy.reasons(nothing, nothing, features.INPUTS) == ()


def test_card_precision_counts_cards_not_payments():
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    truth = np.array([1.0, 1.0, 0.0, 0.0])
    cards = np.array([1, 1, 2, 3])  # the two best payments are one card's
    assert model.card_precision_at(scores, truth, cards, np.zeros(4, np.int64), k=2) == 0.5


def test_card_precision_is_a_mean_over_days():
    scores = np.array([0.9, 0.9])
    truth = np.array([1.0, 0.0])
    assert model.card_precision_at(scores, truth, np.array([1, 1]), np.array([0, 1]), k=1) == 0.5
