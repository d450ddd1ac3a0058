"""Events and their outcomes as training reads them from the lake."""

from __future__ import annotations

import pytest
from small_lake import at, chargeback, page, payment, put, reversal, time_at, video, watch

from reference_system.training.fraud.duckdb_events import labelled_payments
from reference_system.training.recommendation.duckdb_events import catalogue, impressions, watched_videos
from reference_system.training.temporal_split import Span

DAY = Span(start=at(0), end=at(24))


def test_a_payment_with_a_chargeback_is_a_fraud_and_others_are_not(tmp_path):
    put(tmp_path, "transactions", payment(2, 2), payment(1, 1))
    put(tmp_path, "chargebacks", chargeback(2, 2, 50))
    table = labelled_payments(tmp_path, DAY)
    assert table["time"].to_pylist() == [time_at(1), time_at(2)]
    assert table["label"].to_pylist() == [0.0, 1.0]


def test_only_payments_of_the_window_are_read(tmp_path):
    put(tmp_path, "transactions", payment(1, -1), payment(2, 0), payment(3, 23.99), payment(4, 24))
    assert labelled_payments(tmp_path, DAY)["time"].to_pylist() == [time_at(0), time_at(23.99)]


def test_a_chargeback_that_came_after_the_last_label_was_mature_is_not_known(tmp_path):
    put(tmp_path, "transactions", payment(1, 1), payment(2, 2))
    put(tmp_path, "chargebacks", chargeback(1, 1, 24 + 7 * 24), chargeback(2, 2, 24 + 7 * 24 + 0.01))
    assert labelled_payments(tmp_path, DAY)["label"].to_pylist() == [1.0, 0.0]


def test_two_chargebacks_of_one_payment_are_one_fraud(tmp_path):
    put(tmp_path, "transactions", payment(1, 1))
    put(tmp_path, "chargebacks", chargeback(1, 1, 30), chargeback(1, 1, 40) | {"chargeback_id": "another"})
    assert labelled_payments(tmp_path, DAY)["label"].to_pylist() == [1.0]


@pytest.mark.parametrize(("taken_back", "label"), [(24 + 7 * 24, 0.0), (24 + 7 * 24 + 0.01, 1.0)])
def test_a_chargeback_that_was_taken_back_by_then_is_no_fraud(tmp_path, taken_back, label):
    put(tmp_path, "transactions", payment(1, 1))
    put(tmp_path, "chargebacks", chargeback(1, 1, 30))
    put(tmp_path, "chargeback-reversals", reversal(1, 1, taken_back))
    assert labelled_payments(tmp_path, DAY)["label"].to_pylist() == [label]


def test_what_came_late_is_in_no_window_and_in_no_training_set(tmp_path):
    put(tmp_path, "transactions", payment(1, 1))
    put(tmp_path, "transactions", payment(2, 2), late=True)
    put(tmp_path, "impressions", page(1, 1, [7]))
    put(tmp_path, "impressions", page(2, 2, [7]), late=True)
    assert labelled_payments(tmp_path, DAY)["time"].to_pylist() == [time_at(1)]
    assert impressions(tmp_path, DAY)["time"].to_pylist() == [time_at(1)]


def test_an_empty_lake_has_no_rows(tmp_path):
    assert not len(labelled_payments(tmp_path, DAY))
    assert not len(impressions(tmp_path, DAY))
    assert not len(watched_videos(tmp_path, DAY))
    assert not len(catalogue(tmp_path, until=DAY.end))


def test_a_page_becomes_one_row_for_each_position(tmp_path):
    put(tmp_path, "impressions", page(1, 1, [7, 5], propensities=[0.25, 1.0]))
    table = impressions(tmp_path, DAY)
    assert table["video_id"].to_pylist() == ["m7", "m5"]
    assert table["position"].to_pylist() == [1.0, 2.0]
    assert table["propensity"].to_pylist() == [0.25, 1.0]


@pytest.mark.parametrize(
    ("seen", "label"),
    [
        (watch(1, 2, 7), 1.0),
        (watch(1, 2, 7, completion=0.5), 1.0),
        (watch(1, 2, 7, completion=0.49), 0.0),
        (watch(1, 25, 7), 1.0),
        (watch(1, 25.01, 7), 0.0),
        (watch(2, 2, 7), 0.0),
        (watch(1, 2, 8), 0.0),
    ],
    ids=["all", "half", "less than half", "a day later", "later than that", "another page", "another video"],
)
def test_an_impression_is_positive_if_half_was_watched_within_a_day(tmp_path, seen, label):
    put(tmp_path, "impressions", page(1, 1, [7]))
    put(tmp_path, "watches", seen)
    assert impressions(tmp_path, DAY)["label"].to_pylist() == [label]


def test_a_models_page_was_not_drawn_by_chance_even_if_one_place_was(tmp_path):
    served = page(1, 1, [7, 5], propensities=[1.0, 0.02], policy="3")
    put(tmp_path, "impressions", served, page(2, 2, [7, 5], propensities=[1, 0.3]))
    assert impressions(tmp_path, DAY)["drawn"].to_pylist() == [False, False, True, True]


def test_the_catalogue_is_in_the_order_of_publication_and_ends_before_the_moment(tmp_path):
    put(tmp_path, "videos", video(3, 3), video(1, 1, category="sport"), video(2, 24))
    table = catalogue(tmp_path, until=at(24))
    assert table["video_id"].to_pylist() == ["m1", "m3"]
    assert table["category"].to_pylist() == [6, 2]
