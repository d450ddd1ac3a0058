"""The fraud score on small states: what counts, what is cold, what is degraded."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest
from local_broker import NOON
from served_models import States, fraud_model_for_tests

from reference_system.event_time import micros
from reference_system.serving.api import AnswerIdentity, FraudScoreRequest
from reference_system.serving.feature_reads import FeaturesUnavailable
from reference_system.serving.fraud.scoring import score_answer, score_payment, score_record
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, INPUTS, TERMINAL_RISK

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MODEL = fraud_model_for_tests()


def payment(**fields):
    wanted = {"transaction_id": "x1", "customer_id": "c1", "terminal_id": "t1", "amount": 30.0, **fields}
    return FraudScoreRequest(**wanted)


def row(amount):
    return {"transactions": 1.0, "amount": amount}


def inputs_of(scored):
    return dict(zip(INPUTS, scored.inputs.tolist(), strict=True))


@pytest.fixture
def states():
    found = States()
    found.put_rows(CUSTOMER_ACTIVITY, "c1", [(NOON - 3 * DAY, row(10.0)), (NOON - HOUR, row(20.0))])
    found.put_rows(
        TERMINAL_RISK,
        "t1",
        [(NOON - 8 * DAY, {"transactions": 1.0}), (NOON - 8 * DAY + HOUR, {"transactions": 1.0, "frauds": 1.0})],
    )
    return found


def test_the_windows_are_finished_at_the_moment_of_the_payment_with_the_payment_itself(states):
    found = inputs_of(score_payment(payment(), NOON, MODEL, states))
    assert found["customer_transaction_count_1d"] == 2
    assert found["customer_mean_amount_1d"] == 25.0
    assert found["customer_mean_amount_7d"] == 20.0
    assert found["terminal_transaction_count_1d"] == 1  # shifted by the label delay: the day before seven days ago
    assert found["terminal_fraud_rate_7d"] == 0.5
    two_days_later = inputs_of(score_payment(payment(), NOON + 2 * DAY, MODEL, states))
    assert two_days_later["customer_transaction_count_1d"] == 1


def test_the_score_is_the_models_answer_to_the_logged_inputs(states):
    scored = score_payment(payment(), NOON, MODEL, states)
    assert scored.score == pytest.approx(MODEL.scorer(scored.inputs.astype(np.float32)[None])[0], abs=1e-9)
    assert 0.0 < scored.score < 1.0


def test_a_retry_after_the_transaction_was_ingested_does_not_count_it_twice(states):
    first = score_payment(payment(), NOON, MODEL, states)
    rows = [(NOON - 3 * DAY, row(10.0)), (NOON - HOUR, row(20.0)), (NOON, row(30.0))]
    states.put_rows(CUSTOMER_ACTIVITY, "c1", rows)
    retried = score_payment(payment(), NOON, MODEL, states)
    assert retried.inputs.tolist() == first.inputs.tolist()


def test_a_retry_is_recognised_although_the_card_was_used_again(states):
    first = score_payment(payment(), NOON, MODEL, states)
    rows = [(NOON - 3 * DAY, row(10.0)), (NOON - HOUR, row(20.0)), (NOON, row(30.0)), (NOON + HOUR, row(5.0))]
    states.put_rows(CUSTOMER_ACTIVITY, "c1", rows)
    assert score_payment(payment(), NOON, MODEL, states).inputs.tolist() == first.inputs.tolist()


@pytest.mark.parametrize(("moment", "amount"), [(NOON - timedelta(microseconds=1), 30.0), (NOON, 31.0)])
def test_another_payment_is_not_taken_for_a_retry(states, moment, amount):
    states.put_rows(CUSTOMER_ACTIVITY, "c1", [(moment, row(amount))])
    found = inputs_of(score_payment(payment(), NOON, MODEL, states))
    assert found["customer_transaction_count_1d"] == 2


def test_unknown_customer_and_terminal_are_a_cold_start_and_no_error():
    scored = score_payment(payment(), NOON, MODEL, States())
    found = inputs_of(scored)
    assert scored.score is not None
    assert scored.feature_age_seconds is None
    assert found["customer_transaction_count_30d"] == 1
    assert found["terminal_fraud_rate_30d"] == 0


def test_the_feature_age_is_that_of_the_older_state_and_needs_both(states):
    assert score_payment(payment(), NOON, MODEL, states).feature_age_seconds == (8 * DAY - HOUR).total_seconds()
    assert score_payment(payment(terminal_id="new"), NOON, MODEL, states).feature_age_seconds is None


def test_a_card_that_was_quiet_for_weeks_is_scored_by_the_model(states):
    scored = score_payment(payment(), NOON + 60 * DAY, MODEL, states)
    assert scored.score is not None
    assert scored.feature_age_seconds > (60 * DAY).total_seconds()


@pytest.mark.parametrize(("amount", "decision"), [(200.0, "approve"), (200.01, "review")])
def test_without_features_the_amount_decides(amount, decision):
    def down(_view, _keys):
        raise FeaturesUnavailable("down")

    scored = score_payment(payment(amount=amount), NOON, MODEL, down)
    assert (scored.score, scored.decision, scored.inputs) == (None, decision, None)
    assert len(scored.reasons) == 1


def test_a_state_that_is_no_tail_degrades_the_answer(states):
    states.put(CUSTOMER_ACTIVITY, "c1", b"rubbish", NOON)
    assert score_payment(payment(), NOON, MODEL, states).score is None


def test_reasons_name_inputs_above_what_is_usual(states):
    (first, *_) = score_payment(payment(amount=500.0), NOON, MODEL, states).reasons
    assert first.startswith("500.00 to pay; at most 10.00")


@pytest.mark.parametrize("degraded", [False, True])
def test_the_log_record_says_what_the_answer_says(states, degraded):
    def down(_view, _keys):
        raise FeaturesUnavailable("down")

    request = payment(event_timestamp=NOON)
    scored = score_payment(request, NOON, MODEL, down if degraded else states)
    answer = score_answer(
        request, scored, AnswerIdentity(prediction_id="p1", model_version="1", moment=NOON, now=NOON + DAY)
    )
    record = score_record(request, answer, scored, latency_ms=0.5)
    assert (answer.degraded, record.degraded) == (degraded, degraded)
    assert (record.prediction_id, record.request_id, record.entity_id) == ("p1", "x1", "c1")
    assert record.scores == ([] if degraded else [answer.score])
    assert record.features == ([] if degraded else scored.inputs.tolist())
    assert record.entity_keys == ["c1", "t1"]
    newest = [micros(NOON - HOUR), micros(NOON - 8 * DAY + HOUR)]
    assert (record.state_micros, record.catalogue_timestamp) == ([None, None] if degraded else newest, None)
    assert (record.event_timestamp, record.created_timestamp) == (NOON, NOON + DAY)
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record
