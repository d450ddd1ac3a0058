"""Page cases: what a recommender is asked, and what it is judged by."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from small_lake import at, page, put, time_at, video, watch

from reference_system.errors import TrainingError
from reference_system.training.recommendation import page_cases as cases_module
from reference_system.training.recommendation.logged_pages import logged_pages
from reference_system.training.recommendation.page_cases import page_cases
from reference_system.training.recommendation.video_tables import read_videos, video_tables
from reference_system.training.temporal_split import Span
from reference_system.use_cases.recommendation.features import INPUTS

TEST = Span(start=at(48), end=at(72))
VIEWERS = [f"v{number}" for number in range(1, 4)]


def tile_join(entities, views):
    """A join whose features are the hours between `START` and the row's moment."""
    frame = entities.to_pandas()
    hours = (frame["event_timestamp"] - at(0)).dt.total_seconds() / 3600
    return frame.assign(**pd.DataFrame({name: hours for view in views for name in view.features}))


@pytest.fixture
def lake(tmp_path):
    put(tmp_path, "videos", *(video(number, number) for number in range(1, 6)), video(6, 50))
    # Before the test window every viewer watched video 1 and one more: those two belong together.
    for place, viewer in enumerate(VIEWERS):
        number = 10 + place
        put(tmp_path, "impressions", page(number, 20 + place, [1, 2], viewer=viewer))
        put(
            tmp_path,
            "watches",
            watch(number, 21 + place, 1, viewer=viewer),
            watch(number, 22 + place, 2 + place, viewer=viewer, position=2),
        )
    # In the test window the first viewer sees two pages, the others one.
    put(tmp_path, "impressions", page(20, 55, [5, 1], viewer="v1", propensities=[0.25, 0.5]))
    put(tmp_path, "impressions", page(21, 60, [6], viewer="v1", propensities=[0.5]))
    put(tmp_path, "impressions", page(22, 56, [5], viewer="v2", propensities=[0.02], policy="3"))
    put(tmp_path, "impressions", page(23, 57, [5], viewer="v3"))
    put(
        tmp_path,
        "watches",
        watch(20, 56, 5, viewer="v1"),
        watch(20, 57, 1, viewer="v1", position=2),
        watch(21, 61, 6, viewer="v1"),
        watch(22, 58, 5, viewer="v2"),
        watch(23, 58, 5, viewer="v3", completion=0.1),
    )
    return tmp_path


@pytest.fixture
def only_case(lake, monkeypatch):
    monkeypatch.setattr(cases_module, "MIN_CASES", 1)
    (case,) = page_cases(
        lake, TEST, read_videos(lake, TEST.end), video_tables(lake, TEST.start), tile_join, most=9, seed=1
    )
    return case


def test_a_viewer_is_asked_about_at_the_moment_of_the_first_page(only_case):
    assert only_case.viewer == "v1"
    assert only_case.time == time_at(55)


def test_what_was_watched_later_is_relevant_with_one_over_its_propensity(only_case):
    # Video 5 (index 4) had a chance of 1/4, video 6 (index 5) of 1/2.
    assert only_case.relevant == {4: 4.0, 5: 2.0}


def test_what_was_watched_before_is_recent_and_not_relevant(only_case):
    assert only_case.recent == {0, 1}


def test_candidates_include_neighbours_and_a_video_that_is_newer_than_the_tables(only_case):
    # Neighbours and relatives of what the viewer watched, then the newest, then the rest.
    assert set(only_case.candidates[:4].tolist()) == {0, 1, 2, 3}
    assert only_case.candidates[4:].tolist() == [5, 4]


def test_the_inputs_are_those_of_the_moment_and_videos_are_seen_in_the_first_place(only_case):
    columns = dict(zip(INPUTS, only_case.inputs.T, strict=True))
    assert (columns["position"] == 1.0).all()
    assert (columns["viewer_watch_count_1d"] == 55.0).all()
    # The last tile of six hours before hour 55 ended at hour 54.
    assert (columns["video_watch_count_1d"] == 54.0).all()


def test_a_page_of_a_model_judges_nobody(only_case):
    assert only_case.viewer != "v2"


def several_viewers(lake, names):
    """Six viewers who each watch a page that was drawn by chance; how they are called is up to `names`."""
    for place, name in enumerate(names):
        number = 30 + place
        put(lake, "impressions", page(number, 50 + place, [1 + place % 5, 6], viewer=name, propensities=[0.25, 0.5]))
        put(lake, "watches", watch(number, 51 + place, 1 + place % 5, viewer=name))
    return read_videos(lake, TEST.end), video_tables(lake, TEST.start)


@pytest.mark.parametrize("names", ["abcdef", "fedcba", "cafebd"])
def test_which_viewers_are_drawn_does_not_depend_on_their_names(lake, monkeypatch, names):
    monkeypatch.setattr(cases_module, "MIN_CASES", 1)
    videos, tables = several_viewers(lake, names)
    cases = page_cases(lake, TEST, videos, tables, tile_join, most=4, seed=1)
    # Viewer v1 of the lake is among those who are drawn from.
    assert [round((case.time - time_at(0)) / 3.6e9) for case in cases] == [50, 51, 54, 55]


@pytest.mark.parametrize("names", ["abcdef", "fedcba", "cafebd"])
def test_viewers_of_logged_pages_are_numbered_as_they_came(lake, names):
    videos, tables = several_viewers(lake, names)
    logged = logged_pages(lake, TEST, videos, tables, tile_join, most=99, seed=1)
    found = logged.beside(lambda rows: rows[:, 0] * 0.0)
    assert found.viewers.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 5]


def test_too_few_viewers_are_refused_with_their_number(lake):
    with pytest.raises(TrainingError, match=r"only 1 viewers .* 30 are needed"):
        page_cases(lake, TEST, read_videos(lake, TEST.end), video_tables(lake, TEST.start), tile_join, most=9, seed=1)


def test_the_tables_know_nothing_of_their_moment_or_later(lake):
    tables = video_tables(lake, TEST.start)
    assert len(tables.videos) == 5
    assert tables.popular[0] == 0
    assert set(tables.neighbours.items[0][:3].tolist()) == {1, 2, 3}
    assert (tables.neighbours.items[4] == -1).all()


def test_trends_are_a_week_long(lake):
    put(lake, "watches", *(watch(number, 300 + number / 10, 5, viewer=f"v{number}") for number in range(100, 105)))
    moment = at(309 + 7 * 24)
    assert video_tables(lake, moment).popular[0] == 4
    assert video_tables(lake, TEST.start).popular[0] == 0


def test_a_platform_on_which_nobody_watches_has_no_tables(tmp_path):
    put(tmp_path, "videos", video(1, 1))
    with pytest.raises(TrainingError, match="no video was watched in the 30 days"):
        video_tables(tmp_path, at(48))


def test_only_pages_drawn_by_chance_are_laid_beside_the_rankers(lake):
    videos, tables = read_videos(lake, TEST.end), video_tables(lake, TEST.start)

    def scorer(inputs):
        return inputs[:, INPUTS.index("position")] / 20.0

    found = logged_pages(lake, TEST, videos, tables, tile_join, most=9, seed=1).beside(scorer)
    # Pages 20, 21 and 23; every video fits on a page of ten, so every logged place is on the ranker's page.
    assert found.page.tolist() == [0, 0, 1, 2]
    assert sorted(found.propensities.tolist()) == [0.25, 0.5, 0.5, 0.5]
    assert found.labels.sum() == 3.0
    assert found.lengths.tolist() == [6.0, 6.0, 6.0]
    # The mean over ten positions of position / 20.
    assert found.expected == pytest.approx(np.full(4, 0.275))
    assert found.predicted == pytest.approx(found.lengths * 0.275)
