"""Training sets: rows of a hand-made lake with hand-made features."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from small_lake import at, chargeback, page, payment, put, time_at, video, watch

from reference_system.errors import TrainingError
from reference_system.training.fraud.training_set import fraud_rows
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.recommendation.case import prepare_recommendation, recommendation_split
from reference_system.training.recommendation.training_set import impression_rows
from reference_system.training.recommendation.video_tables import read_videos
from reference_system.training.temporal_split import Span
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.recommendation import features as recommendation

DAY = Span(start=at(0), end=at(24))


def hour_join(entities, views):
    """A join whose every feature is the hour of the row's moment, and some more for each view."""
    frame = entities.to_pandas()
    hours = frame["event_timestamp"].dt.hour.astype(float)
    values = {name: hours + 100 * number for number, view in enumerate(views) for name in view.features}
    return frame.assign(**pd.DataFrame(values))


def forgetful_join(entities, views):
    frame = hour_join(entities, views)
    frame.loc[1, views[-1].features[0]] = np.nan
    return frame


@pytest.fixture
def payments(tmp_path):
    put(tmp_path, "transactions", payment(1, 3, amount=12.5), payment(2, 20, customer="c2"), payment(3, 21))
    put(tmp_path, "chargebacks", chargeback(2, 20, 40))
    return tmp_path


def test_a_fraud_row_is_the_models_inputs_at_the_payments_moment(payments):
    rows = fraud_rows(payments, DAY, hour_join, what="training")
    assert rows.inputs.dtype == np.float32
    assert rows.inputs.shape == (3, len(fraud.INPUTS))
    first = dict(zip(fraud.INPUTS, rows.inputs[0].tolist(), strict=True))
    assert (first["amount"], first["is_weekend"], first["is_night"]) == (12.5, 1.0, 1.0)
    assert first["customer_transaction_count_1d"] == 3.0
    assert first["terminal_fraud_rate_30d"] == 103.0
    assert rows.labels.tolist() == [0.0, 1.0, 0.0]
    assert rows.groups.tolist() == [0, 1, 0]
    assert rows.times.tolist() == [time_at(3), time_at(20), time_at(21)]


def test_payments_of_one_moment_stand_in_the_order_of_what_they_hold_whatever_their_ids(tmp_path):
    digests = set()
    for place, ids in enumerate([(1, 2, 3), (3, 1, 2), (2, 3, 1)]):
        lake = tmp_path / str(place)
        lake.mkdir()
        found = [
            payment(number, 3, customer=f"c{number}", amount=amount)
            for number, amount in zip(ids, (9, 5, 7), strict=True)
        ]
        put(lake, "transactions", *found, payment(9, 20, customer=f"c{ids[0]}"))
        put(lake, "chargebacks", chargeback(9, 20, 40), chargeback(ids[1], 3, 40))
        digests.add(fraud_rows(lake, DAY, hour_join, what="training").digest())
    assert len(digests) == 1


def test_a_window_without_payments_says_so(tmp_path):
    with pytest.raises(TrainingError, match=r"the training window from 2025-02-01 00:00 .* has no rows"):
        fraud_rows(tmp_path, DAY, hour_join, what="training")


def test_a_window_without_a_fraud_says_so(tmp_path):
    put(tmp_path, "transactions", payment(1, 3))
    with pytest.raises(TrainingError, match="has 1 rows and 0 positive labels"):
        fraud_rows(tmp_path, DAY, hour_join, what="test")


def test_features_that_nobody_computed_name_the_command_that_does(payments):
    with pytest.raises(TrainingError, match=r"1 of 3 rows .* terminal_risk") as raised:
        fraud_rows(payments, DAY, forgetful_join, what="test")
    assert raised.value.next_command == "workbook etl --from 2025-02-01"


def test_the_digest_changes_with_any_value_and_with_nothing_else():
    def rows(label):
        labels = np.array([0.0, label])
        return LabelledRows(
            inputs=np.ones((2, 3), np.float32), labels=labels, groups=np.arange(2), times=np.arange(2)
        ).digest()

    assert rows(1.0) == rows(1.0)
    assert rows(1.0) != rows(0.0)


@pytest.fixture
def shown(tmp_path):
    put(tmp_path, "videos", video(1, -48, category="sport", seconds=120), video(2, -24), video(3, 30))
    put(tmp_path, "impressions", page(1, 6, [2, 1]), page(2, 7, [1, 3], viewer="v2"))
    put(tmp_path, "watches", watch(1, 7, 1, position=2))
    return tmp_path


def impressions(lake, **changes):
    arguments = {"most": 100, "seed": 1, "what": "training"} | changes
    return impression_rows(lake, read_videos(lake, at(24)), DAY, hour_join, **arguments)


def test_a_rankers_row_is_an_impression_at_its_position(shown):
    rows = impressions(shown)
    second = dict(zip(recommendation.INPUTS, rows.inputs[1].tolist(), strict=True))
    assert second["position"] == 2.0
    assert second["video_duration_minutes"] == 2.0
    assert second["video_age_days"] == pytest.approx(54 / 24)
    assert second["viewer_watch_count_1d"] == 6.0
    assert second["video_watch_count_1d"] == 106.0
    assert rows.labels.tolist() == [0.0, 1.0, 0.0]


def test_impressions_of_videos_that_are_not_in_the_catalogue_are_left_out(shown):
    assert len(impressions(shown)) == 3


def test_a_catalogue_that_does_not_fill_a_page_is_refused_with_its_size(shown):
    with pytest.raises(TrainingError, match="the catalogue has 2 videos and a page 10"):
        prepare_recommendation(shown, recommendation_split(at(24) + timedelta(days=1)), hour_join, seed=1)


def test_a_sample_is_the_same_for_the_same_seed_and_keeps_the_order(tmp_path):
    put(tmp_path, "videos", video(1, -1))
    put(tmp_path, "impressions", *(page(number, 1 + number / 100, [1]) for number in range(200)))
    put(tmp_path, "watches", *(watch(number, 2 + number / 100, 1) for number in range(0, 200, 2)))
    first, again, other = (impressions(tmp_path, most=50, seed=seed) for seed in (1, 1, 2))
    assert len(first) == 50
    assert first.digest() == again.digest() != other.digest()
    assert (np.diff(first.times) > 0).all()
