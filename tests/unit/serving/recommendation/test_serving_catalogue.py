"""The catalogue in memory: the same values as reading each video by itself."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_broker import NOON
from served_models import States, ranker_model_for_tests

from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.serving.recommendation.catalogue import (
    catalogue_without_states,
    evaluate_all,
    refresh_catalogue,
    stack_tails,
)
from reference_system.use_cases.recommendation.features import NEWEST_VIDEOS, VIDEO_POPULARITY, VIDEO_PROFILE
from reference_system.windows import EVERYONE, Tail, empty_tail, evaluate, extend, unpack_tail

MODEL = ranker_model_for_tests()
WIDTH = len(VIDEO_POPULARITY.columns)
TILE = timedelta(microseconds=VIDEO_POPULARITY.tile_micros)
WATCH = {"watches": 1.0, "completion": 0.5}

rows = st.lists(
    st.tuples(
        st.integers(micros(NOON) - 40 * MICROS_PER_DAY, micros(NOON)),
        st.lists(st.integers(0, 1_000), min_size=WIDTH, max_size=WIDTH),
    ),
    max_size=8,
)


def tail_of(events):
    return extend(
        VIDEO_POPULARITY,
        empty_tail(VIDEO_POPULARITY),
        np.array([time for time, _ in events], np.int64),
        np.array([values for _, values in events]).reshape(len(events), WIDTH),
    )


@given(st.lists(rows, min_size=1, max_size=5), st.integers(-3 * MICROS_PER_DAY, 35 * MICROS_PER_DAY))
def test_all_videos_at_once_have_the_values_of_each_by_itself(videos, offset):
    tails = [tail_of(events) for events in videos]
    as_of = micros(NOON) + offset
    together = evaluate_all(VIDEO_POPULARITY, stack_tails(VIDEO_POPULARITY, [tail.pack() for tail in tails]), as_of)
    alone = np.array([evaluate(VIDEO_POPULARITY, tail, as_of) for tail in tails])
    np.testing.assert_allclose(together, alone, rtol=1e-9, atol=1e-9)


@given(rows, st.integers(0, VIDEO_POPULARITY.tile_micros - 1))
def test_a_value_holds_from_its_tile_end_to_the_next(events, inside):
    tail = tail_of(events)
    tile_end = micros(NOON)
    assert not tile_end % VIDEO_POPULARITY.tile_micros
    at_end = evaluate(VIDEO_POPULARITY, tail, tile_end)
    np.testing.assert_array_equal(evaluate(VIDEO_POPULARITY, tail, tile_end + inside), at_end)


@pytest.fixture
def states():
    found = States()
    found.put_rows(VIDEO_POPULARITY, "v3", [(NOON - timedelta(hours=1), WATCH)])
    found.put_rows(VIDEO_POPULARITY, "new", [(NOON - TILE, WATCH), (NOON - 2 * TILE, WATCH)])
    newest = [[micros(NOON), "new"], [micros(NOON) - 1, "without-profile"], [micros(NOON) - 2, "v39"]]
    found.put(NEWEST_VIDEOS, EVERYONE, msgspec.msgpack.encode(newest), NOON)
    profile = {"category": "sport", "duration_seconds": 90.0, "event_timestamp": micros(NOON)}
    found.put(VIDEO_PROFILE, "new", msgspec.msgpack.encode(profile), NOON)
    return found


def test_videos_published_after_training_stand_behind_the_bundles(states):
    catalogue = refresh_catalogue(MODEL, states, NOON)
    assert catalogue.video_ids == (*MODEL.video_ids, "new")
    assert catalogue.durations[40] == 90.0
    assert catalogue.newest[0] == 40
    assert catalogue.category_list[40] == 6
    assert len(catalogue.categories) == len(catalogue.published) == 41


def test_features_are_those_of_the_moment_that_is_asked_about(states):
    catalogue = refresh_catalogue(MODEL, states, NOON)
    names = VIDEO_POPULARITY.features
    week = names.index("video_watch_count_7d")
    now, popular = catalogue.features_at(micros(NOON))
    assert (now[3, week], now[40, week]) == (1, 2)
    assert popular[:2] == [40, 3]
    before = catalogue.features_at(micros(NOON - timedelta(minutes=1)))[0]
    assert before[3, week] == 0  # an event counts from the end of its tile on
    for item, video_id in ((3, "v3"), (40, "new")):
        tail: Tail = unpack_tail(VIDEO_POPULARITY, states["video_popularity", video_id][0])
        for moment in (NOON, NOON + timedelta(hours=5), NOON + timedelta(days=10)):
            alone = evaluate(VIDEO_POPULARITY, tail, micros(moment))
            np.testing.assert_allclose(catalogue.features_at(micros(moment))[0][item], alone)


def test_moments_all_over_the_past_do_not_fill_the_memory(states):
    catalogue = refresh_catalogue(MODEL, states, NOON)
    for day in range(50):
        catalogue.features_at(micros(NOON - timedelta(days=day)))
    assert len(catalogue._at) <= 8


def test_an_empty_store_gives_the_bundles_catalogue_with_zeros():
    catalogue = refresh_catalogue(MODEL, States(), NOON)
    features, popular = catalogue.features_at(micros(NOON))
    assert catalogue.video_ids == MODEL.video_ids
    assert not features.any()
    assert len(popular) == 40
    assert catalogue.newest[0] == 39


def test_a_catalogue_without_states_has_no_features():
    with pytest.raises(ValueError, match="without states"):
        catalogue_without_states(MODEL).features_at(micros(NOON))
