"""What the lake says about the viewers of an experiment."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from small_lake import at, page, put, time_at, watch

from reference_system.experiments.definition import Experiment
from reference_system.experiments.duckdb_recommendation_viewers import (
    SETTLED_AFTER,
    exposed,
    known_until,
    rehearsal,
    viewers_of,
)
from reference_system.lake import delta_lake
from reference_system.use_cases import topic_named

EXPERIMENT = Experiment(
    name="try", treatment="2", control="1", share=0.5, metric="watch-rate", salt="s", started=at(0)
)


def exposure(number, hours, *, viewer="v1", arm="control", version="1", experiment="try"):  # noqa: PLR0913 - its facts
    return {
        "event_timestamp": at(hours),
        "exposure_id": f"e{number}",
        "experiment": experiment,
        "arm": arm,
        "viewer_id": viewer,
        "prediction_id": f"i{number}",
        "model_version": version,
    }


def test_a_viewer_counts_in_the_first_arm_from_the_first_page_on(tmp_path):
    put(tmp_path, "impressions", page(1, 1, [1, 2]), page(2, 5, [1, 2]))
    put(
        tmp_path,
        "exposures",
        exposure(1, 1.01),
        exposure(2, 5),
        exposure(3, 3, viewer="v2", arm="treatment", version="1"),
        exposure(4, 9, viewer="v2", arm="treatment", version="2"),
        exposure(5, 2, viewer="v3", experiment="another"),
        exposure(6, -2, viewer="v4"),
        exposure(7, 90, viewer="v5"),
    )

    found = exposed(tmp_path, EXPERIMENT, until=at(48))

    assert found.ids == ["v1", "v2"]
    assert found.treated.tolist() == [False, True]
    # The page of the first answer is a moment older than its record.
    assert found.first.tolist() == [time_at(1), time_at(3)]
    assert found.exposures.tolist() == [2, 2]
    assert found.other_version.tolist() == [0, 1]


def test_what_viewers_did_is_counted_in_the_day_after_and_in_the_weeks_before(tmp_path):
    put(
        tmp_path,
        "impressions",
        page(1, -30 * 24, [1, 2]),  # before the weeks before
        page(2, -48, [1, 2, 3]),
        page(3, 0.5, [1]),  # of the experiment's time, but before the first exposure
        page(4, 2, [1, 2]),
        page(5, 25.9, [1, 2]),
        page(6, 26, [1, 2]),  # a day later
        page(7, 3, [1], viewer="v9"),
    )
    put(
        tmp_path,
        "watches",
        watch(2, -47, 1),
        watch(4, 2.1, 1, completion=0.5),
        watch(4, 2.2, 2, completion=0.4, position=2),  # half of it is a watch, less is minutes only
        watch(6, 26.1, 1),
    )
    put(tmp_path, "exposures", exposure(4, 2), exposure(8, 4, viewer="v2"))

    viewers = viewers_of(tmp_path, exposed(tmp_path, EXPERIMENT, until=at(72)), started=at(0))

    for activity, expected in ((viewers.window, (2, 4, 1, 0.9)), (viewers.before, (1, 3, 1, 1.0))):
        named = (activity.pages, activity.shown, activity.watches, activity.minutes)
        assert [values[0] for values in named] == pytest.approx(expected)
        assert [values[1] for values in named] == [0, 0, 0, 0]


def test_an_empty_lake_has_no_viewers(tmp_path):
    found = exposed(tmp_path, EXPERIMENT, until=at(48))

    assert known_until(tmp_path) is None
    assert found.ids == []
    assert len(viewers_of(tmp_path, found, started=at(0))) == 0
    assert len(rehearsal(tmp_path, ended=at(0))) == 0


def test_the_rehearsal_is_over_before_the_experiment_begins(tmp_path):
    put(tmp_path, "impressions", page(1, -200, [1]), page(2, -100, [1]), page(3, -99, [1]), page(4, -20, [1]))

    found = rehearsal(tmp_path, ended=at(0))

    assert found.first.tolist() == [time_at(-100)]
    assert found.window.pages.tolist() == [2]
    assert found.before.pages.tolist() == [1]


def test_the_partition_that_is_furthest_behind_says_up_to_when_outcomes_are_known(tmp_path):
    topic = topic_named("impressions")
    events = [topic.record(schema_version=1, **page(number, hours, [1])) for number, hours in enumerate((50, 20, 90))]
    table = delta_lake.to_table(topic, events, [0, 1, -1], [5, 6, -1])
    delta_lake.append(tmp_path, topic, table, versions={0: 5, 1: 6})

    assert known_until(tmp_path) == at(20) - SETTLED_AFTER


def test_history_alone_is_known_up_to_its_end(tmp_path):
    put(tmp_path, "impressions", page(1, 10, [1]), page(2, 30, [1]))

    assert known_until(tmp_path) == at(30) - SETTLED_AFTER


def test_ids_and_moments_survive_the_way_through_duckdb(tmp_path):
    put(tmp_path, "exposures", *(exposure(number, number / 100, viewer=f"v{number % 7}") for number in range(1, 40)))

    found = exposed(tmp_path, EXPERIMENT, until=at(1))

    assert isinstance(found.ids, list)
    assert pa.array(found.ids).type == pa.string()
    assert (np.diff(found.first) >= 0).all()
    assert found.first[0] == time_at(0) + timedelta(hours=0.01) // timedelta(microseconds=1)
