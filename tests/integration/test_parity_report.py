"""Parity on a small lake: what is equal, what lag explains, and what nothing explains."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest
from parity_scene import HOURS, Scene, no_store
from served_models import write_fraud_bundle
from small_lake import at

from reference_system.errors import StateError
from reference_system.features.history.window_sums import terms_of
from reference_system.proofs.parity.comparison import differs
from reference_system.proofs.parity.duckdb_parity import check_parity
from reference_system.proofs.parity.questions import feature_bounds
from reference_system.registry.bundles.bundle import MANIFEST, version_folder
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, INPUTS, TERMINAL_RISK
from reference_system.use_cases.recommendation.features import INPUTS as RANKER_INPUTS
from reference_system.windows import empty_tail

HOUR = timedelta(hours=1)


def feature(report, name):
    return next(each for each in report.features if each.feature == name)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


def test_what_was_served_in_time_equals_history(scene):
    for row in scene.payments(60):
        scene.score(row)
    scene.write()
    report = check_parity(scene.paths, "fraud")
    every = report.all_features
    assert (report.predictions, report.rows, report.predictions_without_event) == (60, 60, 0)
    assert (every.match, every.mismatch, every.missing, every.extra) == (60 * 15, 0, 0, 0)
    assert report.differences == []
    assert [each.feature for each in report.features] == list(INPUTS)
    assert report.events_without_prediction == 0
    assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report


def test_a_stream_that_lags_is_told_from_an_error(scene):
    for row in scene.payments(60):
        scene.score(row, lag=timedelta(days=3))
    scene.write()
    report = check_parity(scene.paths, "fraud")
    assert feature(report, "customer_transaction_count_7d").explained_by_lag > 20
    assert report.all_features.errors == 0
    assert report.all_features.mismatch == report.all_features.explained_by_lag
    assert all(each.explained_by_lag for each in report.differences)


def test_a_state_that_lost_its_rows_is_an_error_however_old_it_is(scene):
    rows = scene.payments(60)
    for row in rows:
        scene.score(row, lag=timedelta(0))
    for row in rows:
        read = scene.cards(row["event_timestamp"])
        key = (TERMINAL_RISK.name, row["terminal_id"])
        read[key] = (empty_tail(TERMINAL_RISK).pack(), read[key][1])
        scene.score(row, read=read)
    scene.write()
    report = check_parity(scene.paths, "fraud")
    lost = feature(report, "terminal_transaction_count_30d")
    assert lost.errors == 60
    assert feature(report, "customer_transaction_count_30d").mismatch == 0
    worst = report.differences[0]
    assert (worst.feature, worst.served, worst.explained_by_lag) == ("terminal_transaction_count_1d", 0.0, False)
    assert worst.recomputed == worst.known_low == worst.known_high > 0


def test_values_that_nothing_explains_are_named_worst_first(scene):
    rows = scene.payments(20)
    for row in rows:
        scene.score(row)
    for number, change in ((3, 0.5), (7, 4.0)):
        values = list(scene.log[number].features)
        values[4] += change
        scene.change(number, features=values)
    scene.write()
    report = check_parity(scene.paths, "fraud")
    assert report.all_features.errors == feature(report, INPUTS[4]).errors == 2
    assert [each.prediction_id for each in report.differences] == ["q7", "q3"]
    assert report.differences[0].entity_keys == [rows[7]["customer_id"], rows[7]["terminal_id"]]
    assert report.differences[0].event_timestamp == rows[7]["event_timestamp"]


def test_a_difference_below_the_tolerance_is_none(scene):
    for row in scene.payments(2):
        scene.score(row)
    amount = scene.log[0].features[0]
    scene.change(0, features=[amount * (1 + 5e-7), *scene.log[0].features[1:]])
    scene.change(1, features=[scene.log[1].features[0] + 1e-3, *scene.log[1].features[1:]])
    scene.write()
    report = check_parity(scene.paths, "fraud")
    assert [(each.prediction_id, each.feature) for each in report.differences] == [("q1", "amount")]


def test_a_degraded_answer_counts_as_missing(scene):
    first, second = scene.payments(2)
    scene.score(first, read=no_store)
    scene.score(second)
    scene.write()
    report = check_parity(scene.paths, "fraud")
    assert (report.degraded, report.rows) == (1, 2)
    assert (report.all_features.missing, report.all_features.match, report.all_features.errors) == (15, 15, 0)


def test_an_input_that_is_no_longer_declared_is_counted_and_not_compared(scene):
    folder = version_folder(scene.paths.bundles, "fraud", "7")
    write_fraud_bundle(scene.paths.bundles, "7")
    manifest = msgspec.json.decode((folder / MANIFEST).read_bytes())
    manifest["inputs"] = ["shoe_size", *INPUTS[:-1]]
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    for row in scene.payments(3):
        scene.score(row)
    scene.change(0, model_version="7", features=[43.0, *scene.log[0].features[:-1]])
    scene.change(1, model_version="gone", features=[43.0, *scene.log[1].features])
    scene.write()
    report = check_parity(scene.paths, "fraud")
    assert (feature(report, "shoe_size").extra, feature(report, "shoe_size").match) == (1, 0)
    assert feature(report, "input 15 of gone").extra == 1
    assert feature(report, INPUTS[-1]).missing == 2  # the old model did not ask for it, of the other nothing is known
    assert feature(report, INPUTS[0]).missing == 1
    assert report.all_features.errors == 0


def test_a_trial_request_is_compared_too_and_counted_as_one_without_a_payment(scene):
    rows = scene.payments(30)
    scene.score(
        rows[5], transaction_id="trial", amount=1000.0, moment=rows[5]["event_timestamp"] + timedelta(seconds=1)
    )
    scene.score(rows[9])
    scene.write()
    report = check_parity(scene.paths, "fraud")
    assert (report.predictions, report.predictions_without_event) == (2, 1)
    assert (report.all_features.match, report.all_features.errors) == (30, 0)
    assert report.events_without_prediction == 3  # the sixth to the ninth, without the one that was asked about


def test_a_payment_that_is_asked_about_again_after_it_was_ingested_matches(scene):
    (row,) = scene.payments(1)
    scene.score(row, lag=timedelta(0))
    scene.write()
    assert check_parity(scene.paths, "fraud").all_features.match == 15


def test_only_settled_predictions_are_compared_and_the_newest_of_them(scene):
    rows = scene.rows["transactions"]
    newest = max(row["event_timestamp"] for row in rows)
    for row in rows[-40:]:
        scene.score(row)
    scene.write()
    young = sum(row["event_timestamp"] > newest - timedelta(hours=6) for row in rows[-40:])
    assert young > 0
    report = check_parity(scene.paths, "fraud", limit=10)
    settled = [row["event_timestamp"] for row in rows[-40:]][: 40 - report.settling]
    assert report.predictions == 10
    assert abs(report.settling - young) <= 1  # the newest event may be a chargeback's payment or a payment
    assert (report.first, report.last) == (settled[-10], settled[-1])
    chosen = check_parity(scene.paths, "fraud", start=settled[2], end=settled[5])
    assert (chosen.predictions, chosen.first, chosen.last) == (3, settled[2], settled[4])


def test_without_settled_predictions_there_is_no_report(scene):
    with pytest.raises(StateError, match="no prediction for fraud can be compared yet: 0"):
        check_parity(scene.paths, "fraud")


@pytest.mark.parametrize("topic", ["fraud", "recommendation"])
def test_an_empty_system_has_no_report(tmp_path, topic):
    with pytest.raises(StateError, match="can be compared"):
        check_parity(Scene(tmp_path, rows={}).paths, topic)


def test_pages_equal_history_and_an_old_catalogue_is_lag(scene):
    moment = at(HOURS - 30)
    for number in range(2):
        asked = moment + number * HOUR
        scene.recommend(f"w{number % 4}", asked, refreshed=asked)
    scene.write()
    report = check_parity(scene.paths, "recommendation")
    assert (report.predictions, report.rows) == (2, 10)
    assert [each.feature for each in report.features] == list(RANKER_INPUTS)
    assert (report.all_features.match, report.all_features.mismatch) == (10 * len(RANKER_INPUTS), 0)

    stale = Scene(scene.root / "stale")
    stale.recommend("w0", moment, refreshed=moment - timedelta(days=5), k=30)
    stale.write()
    report = check_parity(stale.paths, "recommendation")
    assert report.all_features.explained_by_lag > 5
    assert report.all_features.errors == 0


def test_a_page_of_another_hour_or_of_unknown_videos_is_an_error(scene):
    moment = at(HOURS - 30)
    scene.recommend("w1", moment, refreshed=moment)
    scene.recommend("w1", moment, refreshed=moment)
    scene.change(0, event_timestamp=moment + HOUR)
    items = ["nowhere", *scene.log[1].items[1:]]
    scene.change(1, items=items, entity_keys=["w1", *items])
    scene.write()
    report = check_parity(scene.paths, "recommendation")
    assert feature(report, "hour").errors == 5
    unknown = [each for each in report.differences if each.prediction_id == "q1"]
    assert {each.entity_keys[1] for each in unknown if each.recomputed is None} == {"nowhere"}
    assert feature(report, "video_duration_minutes").errors == 1


def test_a_ratio_lies_between_what_its_sums_allow():
    terms = terms_of(TERMINAL_RISK)
    low = np.array([[1.0 if name == "frauds" else 4.0 for _, _, name in terms]])
    high = np.array([[2.0 if name == "frauds" else 8.0 for _, _, name in terms]])
    least, most = feature_bounds(TERMINAL_RISK, low, high)
    assert least[0].tolist() == [4.0] * 3 + [0.125] * 3
    assert most[0].tolist() == [8.0] * 3 + [0.5] * 3
    same = feature_bounds(TERMINAL_RISK, low, low)
    assert same[0].tolist() == same[1].tolist() == [[4.0] * 3 + [0.25] * 3]
    nothing = feature_bounds(CUSTOMER_ACTIVITY, np.zeros((1, 6)), np.ones((1, 6)))
    assert nothing[0].tolist() == [[0.0] * 6]
    assert nothing[1][0, 3:].tolist() == [np.inf] * 3


def test_what_is_missing_differs_from_everything():
    assert differs(np.array([np.nan, 1.0, 1.0]), np.array([1.0, np.nan, 1.0 + 9e-7])).tolist() == [True, True, False]
