"""A page from small states: candidates, order, rules, cold start, degradation."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import numpy as np
import pytest
from local_broker import NOON
from served_models import States, ranker_model_for_tests

from reference_system.event_time import micros
from reference_system.serving.api import AnswerIdentity, RecommendationRequest
from reference_system.serving.feature_reads import FeaturesUnavailable
from reference_system.serving.recommendation.catalogue import catalogue_without_states, refresh_catalogue
from reference_system.serving.recommendation.pages import compose, page_answer, page_record
from reference_system.use_cases.recommendation.features import INPUTS, VIEWER_ACTIVITY, VIEWER_RECENT
from reference_system.use_cases.recommendation.model import CANDIDATE_COUNT
from reference_system.use_cases.recommendation.policy import MAX_CATEGORY_SHARE
from reference_system.windows import evaluate

MODEL = ranker_model_for_tests()


@pytest.fixture
def states():
    found = States()
    watch = {"watches": 1.0, "completion": 0.8, "music": 1.0}
    found.put_rows(VIEWER_ACTIVITY, "w1", [(NOON - timedelta(hours=2), watch)])
    recent = [[micros(NOON), "v10"], [micros(NOON) - 1, "gone"]]
    found.put(VIEWER_RECENT, "w1", msgspec.msgpack.encode(recent), NOON)
    return found


@pytest.fixture
def catalogue(states):
    return refresh_catalogue(MODEL, states, NOON)


def test_a_known_viewer_gets_a_full_page_with_scores_and_sources(states, catalogue):
    page = compose("w1", 10, NOON, catalogue, states)
    ids = [item.video_id for item in page.items]
    assert len(ids) == len(set(ids)) == 10
    assert page.feature_age_seconds == 7200.0
    assert "v10" not in ids  # watched lately
    assert all(0.0 <= item.score <= 1.0 for item in page.items)


def test_a_neighbour_of_what_was_watched_is_a_candidate_as_such(states, catalogue):
    page = compose("w1", 40, NOON, catalogue, states)
    sources = {item.video_id: item.source for item in page.items}
    assert (sources["v11"], sources["v12"]) == ("neighbours", "neighbours")


def test_scores_are_the_models_answers_to_the_logged_inputs(states, catalogue):
    page = compose("w1", 8, NOON, catalogue, states)
    again = MODEL.scorer(page.inputs.astype(np.float32))
    np.testing.assert_allclose([item.score for item in page.items], again, atol=1e-6)
    named = dict(zip(INPUTS, page.inputs[0].tolist(), strict=True))
    viewer = dict(zip(VIEWER_ACTIVITY.features, evaluate_viewer(states), strict=True))
    assert named["viewer_watch_count_1d"] == viewer["viewer_watch_count_1d"] == 1
    assert named["position"] == 1
    assert named["hour"] == 12


def evaluate_viewer(states):
    from reference_system.windows import unpack_tail

    tail = unpack_tail(VIEWER_ACTIVITY, states["viewer_activity", "w1"][0])
    return evaluate(VIEWER_ACTIVITY, tail, micros(NOON)).tolist()


def test_a_relative_by_its_factors_is_a_candidate_as_such():
    states = States()
    states.put(VIEWER_RECENT, "w2", msgspec.msgpack.encode([[micros(NOON), "v13"]]), NOON)
    vectors = np.zeros((40, 1), np.float32)
    vectors[[13, 30]] = 1.0
    catalogue = refresh_catalogue(replace(MODEL, vectors=vectors), states, NOON)
    sources = {item.video_id: item.source for item in compose("w2", 40, NOON, catalogue, states).items}
    assert sources["v30"] == "factors"


def test_the_same_draw_gives_the_same_page_and_no_draw_is_certain(states, catalogue):
    certain = compose("w1", 10, NOON, catalogue, states)
    assert {item.propensity for item in certain.items} == {1.0}
    pages = [compose("w1", 10, NOON, catalogue, states, draw=draw) for draw in (0.9, 0.9, 0.1)]
    assert pages[0].items == pages[1].items
    assert pages[0].items[:-1] == pages[2].items[:-1] == certain.items[:-1]
    assert pages[0].items[-1].video_id != pages[2].items[-1].video_id
    assert pages[0].items[-1].propensity < 1.0


def test_a_drawn_video_is_logged_with_the_inputs_that_gave_its_score(states, catalogue):
    page = compose("w1", 10, NOON, catalogue, states, draw=0.9)
    again = MODEL.scorer(page.inputs.astype(np.float32))
    np.testing.assert_allclose([item.score for item in page.items], again, atol=1e-6)


def test_no_category_takes_more_than_its_share(states, catalogue):
    page = compose("w1", 10, NOON, catalogue, states)
    categories = [catalogue.category_list[catalogue.index[item.video_id]] for item in page.items]
    assert max(categories.count(each) for each in categories) <= 10 * MAX_CATEGORY_SHARE


def test_an_unknown_viewer_gets_newest_and_popular_videos(catalogue, states):
    page = compose("nobody", 10, NOON, catalogue, states)
    assert len(page.items) == 10
    assert page.feature_age_seconds is None
    assert {item.source for item in page.items} <= {"newest", "popular"}
    assert page.inputs is not None


def test_at_most_so_many_candidates_are_ranked():
    model = ranker_model_for_tests(videos=500)
    ranked = []

    def scorer(rows):
        ranked.append(len(rows))
        return model.scorer(rows)

    catalogue = refresh_catalogue(replace(model, scorer=scorer), States(), NOON)
    compose("nobody", 10, NOON, catalogue, States())
    assert ranked == [CANDIDATE_COUNT]


def test_without_states_the_bundles_popular_videos_are_shown(states, catalogue):
    def down(_view, _keys):
        raise FeaturesUnavailable("down")

    for page in (
        compose("w1", 5, NOON, catalogue, down),
        compose("w1", 5, NOON, catalogue_without_states(MODEL), states),
    ):
        assert [item.video_id for item in page.items] == ["v0", "v1", "v2", "v3", "v4"]
        assert {item.score for item in page.items} == {None}
        assert page.inputs is None


@pytest.mark.parametrize("view", [VIEWER_ACTIVITY, VIEWER_RECENT])
def test_a_state_that_cannot_be_read_degrades_the_page(states, catalogue, view):
    states.put(view, "w1", b"\xc1rubbish", NOON)
    assert compose("w1", 5, NOON, catalogue, states).inputs is None


def test_a_page_longer_than_the_catalogue_is_the_whole_catalogue():
    catalogue = refresh_catalogue(ranker_model_for_tests(videos=6), States(), NOON)
    page = compose("nobody", 50, NOON, catalogue, States())
    assert len(page.items) == 6


def test_the_log_record_joins_with_the_page_that_is_shown(states, catalogue):
    page = compose("w1", 3, NOON, catalogue, states)
    request = RecommendationRequest(viewer_id="w1", k=3)
    answer = page_answer(request, page, AnswerIdentity(prediction_id="p1", model_version="1", moment=NOON, now=NOON))
    record = page_record(answer, page, latency_ms=1.0)
    assert record.request_id == record.prediction_id == answer.prediction_id == "p1"
    assert record.items == [item.video_id for item in answer.items]
    assert len(record.scores) == 3
    assert len(record.features) == 3 * len(INPUTS)
    assert record.entity_keys == ["w1", *record.items]
    assert record.state_micros == [micros(NOON - timedelta(hours=2)), None, None, None]
    assert record.catalogue_timestamp == NOON
    assert msgspec.json.decode(msgspec.json.encode(record), type=type(record)) == record
