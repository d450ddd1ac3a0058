from datetime import UTC, datetime, timedelta

import pytest
from sample_events import example

from reference_system.event_time import micros
from reference_system.feedback.duckdb_fraud_labels import (
    answered_payments,
    dispute_times,
    fraud_shares,
    payment_outcomes,
    payment_reports,
)
from reference_system.feedback.duckdb_recommendation_labels import page_outcomes
from reference_system.lake.delta_lake import append, to_table
from reference_system.use_cases import topic_named

PAID = datetime(2025, 3, 3, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
MATURE = PAID + 7 * DAY
START, END = PAID - DAY, PAID + DAY


@pytest.fixture
def lake(tmp_path):
    return tmp_path / "lake"


def put(lake, topic_name, *changes):
    topic = topic_named(topic_name)
    events = [example(topic_name, **each) for each in changes]
    append(lake, topic, to_table(topic, events, [-1] * len(events), [-1] * len(events)), versions={})


def payment(number, **changes):
    return {"transaction_id": f"x{number}", "event_timestamp": PAID + timedelta(minutes=number)} | changes


def answer(number, **changes):
    asked = PAID + timedelta(minutes=number)
    fields = {"prediction_id": f"p{number}", "request_id": f"x{number}", "event_timestamp": asked}
    return fields | {"created_timestamp": asked, "scores": [0.25]} | changes


def chargeback(number, created, **changes):
    fields = {"chargeback_id": f"b{number}", "transaction_id": f"x{number}", "created_timestamp": created}
    return fields | {"event_timestamp": PAID + timedelta(minutes=number)} | changes


def reversal(number, created, **changes):
    return chargeback(number, created, **changes)


def labels(lake, as_of=MATURE + DAY):
    rows = payment_outcomes(lake, START, END, as_of=as_of).to_pylist()
    return {row["transaction_id"]: row["label"] for row in rows}


def test_a_chargeback_makes_a_fraud_and_none_a_genuine_payment(lake):
    put(lake, "transactions", payment(1), payment(2))
    put(lake, "predictions", answer(1), answer(2))
    put(lake, "chargebacks", chargeback(2, PAID + 3 * DAY))
    assert labels(lake) == {"x1": 0, "x2": 1}


def test_a_label_that_was_created_after_as_of_is_never_used(lake):
    put(lake, "transactions", payment(1))
    put(lake, "predictions", answer(1))
    put(lake, "chargebacks", chargeback(1, MATURE + 3 * DAY))
    assert labels(lake, as_of=MATURE + 2 * DAY) == {"x1": 0}
    assert labels(lake, as_of=MATURE + 3 * DAY) == {"x1": 1}


def test_a_payment_is_not_judged_before_its_label_is_mature(lake):
    put(lake, "transactions", payment(0))
    put(lake, "predictions", answer(0))
    put(lake, "chargebacks", chargeback(0, PAID + DAY))
    assert labels(lake, as_of=MATURE - timedelta(microseconds=1)) == {}
    assert labels(lake, as_of=MATURE) == {"x0": 1}


def test_an_answer_without_a_payment_is_left_out(lake):
    put(lake, "transactions", payment(1))
    put(lake, "predictions", answer(1), answer(2, request_id="load-7-000002"), answer(3, request_id="first-1"))
    assert labels(lake) == {"x1": 0}


def test_a_payment_that_was_scored_twice_keeps_the_first_answer(lake):
    put(lake, "transactions", payment(1))
    later = answer(1, prediction_id="p9", created_timestamp=PAID + timedelta(hours=1), scores=[0.9])
    put(lake, "predictions", later, answer(1))
    (row,) = payment_outcomes(lake, START, END, as_of=MATURE + DAY).to_pylist()
    assert (row["prediction_id"], row["score"]) == ("p1", 0.25)


def test_an_answer_of_a_rule_has_no_score(lake):
    put(lake, "transactions", payment(1))
    put(lake, "predictions", answer(1, scores=[], features=[], degraded=True))
    (row,) = payment_outcomes(lake, START, END, as_of=MATURE + DAY).to_pylist()
    assert row["score"] is None
    assert row["degraded"]


def test_two_chargebacks_of_one_payment_are_one_row_with_the_first_moment(lake):
    put(lake, "transactions", payment(1))
    put(lake, "predictions", answer(1))
    put(lake, "chargebacks", chargeback(1, PAID + 3 * DAY), chargeback(1, PAID + 2 * DAY, chargeback_id="b9"))
    (row,) = payment_outcomes(lake, START, END, as_of=MATURE + DAY).to_pylist()
    assert row["label_created_timestamp"] == PAID + 2 * DAY


def test_a_chargeback_that_is_taken_back_makes_no_fraud_from_then_on(lake):
    put(lake, "transactions", payment(1))
    put(lake, "predictions", answer(1))
    put(lake, "chargebacks", chargeback(1, PAID + 2 * DAY))
    put(lake, "chargeback-reversals", reversal(1, MATURE + DAY))
    assert labels(lake, as_of=MATURE + DAY - timedelta(microseconds=1)) == {"x1": 1}
    assert labels(lake, as_of=MATURE + DAY) == {"x1": 0}


def test_the_label_of_a_payment_that_was_disputed_anew_is_as_old_as_the_new_dispute(lake):
    put(lake, "transactions", payment(1), payment(2))
    put(lake, "predictions", answer(1), answer(2))
    new = {"chargeback_id": "new"}
    put(lake, "chargebacks", *(chargeback(n, PAID + DAY) for n in (1, 2)))
    put(lake, "chargeback-reversals", *(reversal(n, PAID + 3 * DAY) for n in (1, 2)))
    # The first payment's new dispute came before the old one was taken back, the second one's after that.
    put(lake, "chargebacks", chargeback(1, PAID + 3 * DAY, **new), chargeback(2, PAID + 4 * DAY, **new))
    rows = payment_outcomes(lake, START, END, as_of=MATURE + DAY).to_pylist()
    assert [row["label_created_timestamp"] for row in rows] == [PAID + DAY, PAID + 4 * DAY]


def test_a_fraud_that_was_named_twice_is_one_fraud_of_its_day(lake):
    put(lake, "transactions", payment(1), payment(2), payment(3))
    twice = {"chargeback_id": "b9"}
    put(
        lake,
        "chargebacks",
        chargeback(1, PAID + DAY),
        chargeback(1, PAID + 2 * DAY, **twice),
        chargeback(2, PAID + DAY),
    )
    put(lake, "chargeback-reversals", reversal(2, PAID + 2 * DAY))
    (day,) = fraud_shares(lake, PAID - 5 * DAY, as_of=MATURE + 2 * DAY).to_pylist()
    assert (day["payments"], day["frauds"]) == (3, 1)


def test_an_empty_lake_has_no_outcomes_and_the_right_columns(lake):
    assert payment_outcomes(lake, START, END, as_of=MATURE).num_rows == 0
    pages = page_outcomes(lake, START, END, as_of=MATURE)
    assert pages.num_rows == 0
    assert pages.column_names[0] == "prediction_id"
    assert fraud_shares(lake, START, as_of=MATURE).num_rows == 0


def test_the_share_of_frauds_counts_every_payment_of_whole_mature_days(lake):
    put(lake, "transactions", payment(1), payment(2), payment(3, event_timestamp=PAID + DAY))
    put(lake, "chargebacks", chargeback(2, PAID + 3 * DAY))
    midnight = PAID.replace(hour=0)
    start = midnight - 5 * DAY
    assert fraud_shares(lake, start, as_of=midnight + 8 * DAY - timedelta(seconds=1)).num_rows == 0
    found = fraud_shares(lake, start, as_of=midnight + 8 * DAY).to_pylist()
    assert found == [{"day": micros(midnight) // micros(datetime(1970, 1, 2, tzinfo=UTC)), "payments": 2, "frauds": 1}]


def page(**changes):
    fields = {"impression_id": "i1", "event_timestamp": PAID, "video_ids": ["m1", "m2"], "policy": "3"}
    return fields | changes


def watch(video, after, completion=0.8, **changes):
    fields = {"watch_id": f"w-{video}-{after}", "impression_id": "i1", "video_id": video, "completion": completion}
    return fields | {"event_timestamp": PAID + after} | changes


def watched(lake, as_of=PAID + 3 * DAY):
    rows = page_outcomes(lake, START, END, as_of=as_of).to_pylist()
    return [(row["video_id"], row["position"], row["label"]) for row in rows]


def test_a_video_of_the_page_that_was_watched_is_a_positive(lake):
    put(lake, "impressions", page())
    put(lake, "watches", watch("m2", timedelta(minutes=9)))
    assert watched(lake) == [("m1", 1, 0), ("m2", 2, 1)]


def test_a_watch_after_the_attribution_window_does_not_count(lake):
    put(lake, "impressions", page())
    put(lake, "watches", watch("m1", DAY), watch("m2", DAY + timedelta(seconds=1)))
    assert watched(lake) == [("m1", 1, 1), ("m2", 2, 0)]


def test_a_video_that_was_given_up_is_a_negative(lake):
    put(lake, "impressions", page())
    put(lake, "watches", watch("m1", timedelta(minutes=1), 0.49), watch("m2", timedelta(minutes=2), 0.5))
    assert watched(lake) == [("m1", 1, 0), ("m2", 2, 1)]


def test_everything_that_was_seen_of_a_video_in_time_counts_as_time_watched(lake):
    put(lake, "impressions", page(viewer_id="v7"))
    put(
        lake,
        "watches",
        watch("m2", timedelta(minutes=9), 0.1, watch_seconds=10.05),
        watch("m2", timedelta(minutes=20), 0.6, watch_seconds=60.0),
        watch("m2", DAY + timedelta(seconds=1), 0.9, watch_seconds=90.0),
    )
    rows = page_outcomes(lake, START, END, as_of=PAID + 3 * DAY).to_pylist()
    assert [(row["viewer_id"], row["video_id"], row["label"], row["watched_milliseconds"]) for row in rows] == [
        ("v7", "m1", 0, 0),
        ("v7", "m2", 1, 70_050),
    ]


def test_a_page_is_not_judged_before_its_window_has_passed(lake):
    put(lake, "impressions", page())
    put(lake, "watches", watch("m1", timedelta(minutes=1)))
    assert watched(lake, as_of=PAID + DAY - timedelta(microseconds=1)) == []
    assert len(watched(lake, as_of=PAID + DAY)) == 2


def test_a_page_of_a_model_has_the_scores_of_its_answer_by_video(lake):
    put(lake, "impressions", page(), page(impression_id="i2", policy="popularity"))
    scored = {"use_case": "recommendation", "request_id": "i1", "items": ["m2", "m3", "m1"], "scores": [0.9, 0.5, 0.4]}
    put(lake, "predictions", answer(0, **scored))
    rows = page_outcomes(lake, START, END, as_of=PAID + 3 * DAY).to_pylist()
    assert [(row["impression_id"], row["model_version"], row["score"]) for row in rows] == [
        ("i1", "3", 0.4),
        ("i1", "3", 0.9),
        ("i2", "popularity", None),
        ("i2", "popularity", None),
    ]


def test_reports_are_known_from_the_moment_they_were_made_mature_or_not(lake):
    put(lake, "transactions", payment(1), payment(2), payment(3))
    put(lake, "chargebacks", chargeback(2, PAID + 2 * DAY), chargeback(3, PAID + 4 * DAY))
    early = payment_reports(lake, START, as_of=PAID + 3 * DAY).to_pylist()
    assert [row["reported"] for row in early] == [None, micros(PAID + 2 * DAY), None]
    later = payment_reports(lake, START, as_of=PAID + 4 * DAY).to_pylist()
    assert [row["reported"] is None for row in later] == [True, False, False]
    assert [row["time"] for row in later] == sorted(row["time"] for row in later)


def test_a_report_that_was_taken_back_says_until_when_it_stood(lake):
    put(lake, "transactions", payment(1), payment(2))
    put(lake, "predictions", answer(1, features=[1.0]), answer(2, features=[1.0]))
    put(lake, "chargebacks", chargeback(1, PAID + DAY), chargeback(2, PAID + DAY))
    put(lake, "chargeback-reversals", reversal(1, PAID + 2 * DAY))
    stood = [(micros(PAID + DAY), micros(PAID + 2 * DAY)), (micros(PAID + DAY), None)]
    as_of = PAID + 3 * DAY
    for rows in (payment_reports(lake, START, as_of=as_of), answered_payments(lake, START, as_of=as_of)):
        assert [(row["reported"], row["withdrawn"]) for row in rows.to_pylist()] == stood
    before = payment_reports(lake, START, as_of=PAID + 2 * DAY - timedelta(microseconds=1)).to_pylist()
    assert [row["withdrawn"] for row in before] == [None, None]
    ever = {row["transaction_id"]: (row["reported"], row["withdrawn"]) for row in dispute_times(lake).to_pylist()}
    assert ever == {"x1": stood[0], "x2": stood[1]}


def test_answered_payments_carry_the_inputs_as_they_were_served(lake):
    put(lake, "transactions", payment(1), payment(2))
    put(lake, "predictions", answer(1, features=[1.0, 2.0]), answer(9, features=[3.0]))
    put(lake, "chargebacks", chargeback(1, PAID + 2 * DAY))
    (row,) = answered_payments(lake, START, as_of=PAID + 3 * DAY).to_pylist()
    assert (row["features"], row["score"], row["reported"]) == ([1.0, 2.0], 0.25, micros(PAID + 2 * DAY))
    (young,) = answered_payments(lake, START, as_of=PAID + DAY).to_pylist()
    assert young["reported"] is None


def test_an_empty_lake_has_no_reports_and_no_answers(lake):
    assert payment_reports(lake, START, as_of=MATURE).num_rows == 0
    assert answered_payments(lake, START, as_of=MATURE).num_rows == 0
