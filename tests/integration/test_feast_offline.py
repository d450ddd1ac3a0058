"""Point-in-time joins through Feast on DuckDB: each row gets what was true at its moment, and nothing later."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from reference_system.errors import StateError
from reference_system.features.feast import store as feast_store
from reference_system.features.feast.feature_tables import write_days
from reference_system.paths import StatePaths
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.features import VIDEO_POPULARITY
from reference_system.windows import WindowedView

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MICRO = timedelta(microseconds=1)
COUNT = "customer_transaction_count_1d"


def table(view: WindowedView, rows: list[tuple[str, datetime, float]], *, known: timedelta = timedelta(0)) -> pa.Table:
    """A feature table whose features all have the row's one value."""
    rows = sorted(rows, key=lambda row: row[1])
    moments = pd.Series([moment for _, moment, _ in rows], dtype="datetime64[us, UTC]")
    values = np.array([value for _, _, value in rows])
    frame = pd.DataFrame(
        {view.entity: [key for key, _, _ in rows], "event_timestamp": moments, "created_timestamp": moments + known}
        | dict.fromkeys(view.features, values)
    )
    return pa.Table.from_pandas(frame, preserve_index=False)


@pytest.fixture
def paths(tmp_path) -> StatePaths:
    return StatePaths(tmp_path)


@pytest.fixture
def store(paths):
    store = feast_store.open_store(paths)
    feast_store.apply(store)
    return store


def publish(paths: StatePaths, view: WindowedView, of: pa.Table) -> None:
    write_days(paths.feature_tables / view.name, of, MONDAY, MONDAY + 30 * DAY)


def entities(**columns: list) -> pa.Table:
    moments = pa.array(columns.pop("at"), pa.timestamp("us", tz="UTC"))
    return pa.table({**columns, "event_timestamp": moments})


def test_a_row_gets_the_value_of_its_own_moment(store, paths):
    publish(paths, CUSTOMER_ACTIVITY, table(CUSTOMER_ACTIVITY, [("c1", MONDAY, 1.0), ("c1", MONDAY + HOUR, 2.0)]))
    joined = feast_store.historical(
        store, entities(customer_id=["c1", "c1"], at=[MONDAY, MONDAY + HOUR]), [CUSTOMER_ACTIVITY]
    )
    assert joined[COUNT].tolist() == [1.0, 2.0]


def test_a_moment_that_was_not_computed_is_missing_instead_of_stale(store, paths):
    publish(paths, CUSTOMER_ACTIVITY, table(CUSTOMER_ACTIVITY, [("c1", MONDAY, 1.0)]))
    asked = entities(customer_id=["c1", "c1", "c2"], at=[MONDAY + HOUR, MONDAY - MICRO, MONDAY])
    assert feast_store.historical(store, asked, [CUSTOMER_ACTIVITY])[COUNT].isna().all()


def test_a_value_that_was_known_only_later_is_not_seen(store, paths):
    publish(paths, CUSTOMER_ACTIVITY, table(CUSTOMER_ACTIVITY, [("c1", MONDAY, 1.0)], known=HOUR))
    asked = entities(customer_id=["c1"], at=[MONDAY])
    assert feast_store.historical(store, asked, [CUSTOMER_ACTIVITY])[COUNT].isna().all()


def test_a_tiled_value_holds_until_a_microsecond_before_the_next_tile_end(store, paths):
    end = MONDAY + 6 * HOUR
    publish(paths, VIDEO_POPULARITY, table(VIDEO_POPULARITY, [("v1", MONDAY, 1.0), ("v1", end, 2.0)]))
    moments = [MONDAY, end - MICRO, end, end + 6 * HOUR - MICRO, end + 6 * HOUR]
    joined = feast_store.historical(store, entities(video_id=["v1"] * 5, at=moments), [VIDEO_POPULARITY])
    assert joined["video_watch_count_1d"].tolist() == [1.0, 1.0, 2.0, 2.0, 0.0]


def test_a_video_that_nobody_has_seen_has_zeros(store, paths):
    publish(paths, VIDEO_POPULARITY, table(VIDEO_POPULARITY, [("v1", MONDAY, 1.0)]))
    joined = feast_store.historical(store, entities(video_id=["new"], at=[MONDAY]), [VIDEO_POPULARITY])
    assert joined[list(VIDEO_POPULARITY.features)].to_numpy().tolist() == [[0.0] * 7]


def test_rows_keep_their_order_their_columns_and_their_duplicates(store, paths):
    generator = np.random.default_rng(3)
    moments = [MONDAY + int(n) * HOUR for n in generator.permutation(200)]
    publish(
        paths,
        CUSTOMER_ACTIVITY,
        table(CUSTOMER_ACTIVITY, [("c1", at, float((at - MONDAY) / HOUR)) for at in moments]),
    )
    publish(paths, TERMINAL_RISK, table(TERMINAL_RISK, [("m1", at, -float((at - MONDAY) / HOUR)) for at in moments]))
    asked = [*moments, *moments[:50]]
    frame = entities(
        customer_id=["c1"] * 250, terminal_id=["m1"] * 250, at=asked, label=list(range(250)), amount=[0.5] * 250
    )
    joined = feast_store.historical(store, frame, [CUSTOMER_ACTIVITY, TERMINAL_RISK])
    assert joined["label"].tolist() == list(range(250))
    assert joined[COUNT].tolist() == [(at - MONDAY) / HOUR for at in asked]
    assert joined["terminal_fraud_rate_30d"].tolist() == [-(at - MONDAY) / HOUR for at in asked]
    assert set(joined.columns) == {*frame.column_names, *CUSTOMER_ACTIVITY.features, *TERMINAL_RISK.features}


def test_the_join_is_what_a_naive_search_finds(store, paths):
    generator = np.random.default_rng(5)
    rows = [
        (f"v{generator.integers(5)}", MONDAY + int(generator.integers(100)) * 6 * HOUR, float(generator.random()))
        for _ in range(200)
    ]
    rows = list({(key, at): (key, at, value) for key, at, value in rows}.values())
    publish(paths, VIDEO_POPULARITY, table(VIDEO_POPULARITY, rows))
    asked = [(f"v{generator.integers(6)}", MONDAY + float(generator.random()) * 25 * DAY) for _ in range(500)]
    joined = feast_store.historical(
        store, entities(video_id=[key for key, _ in asked], at=[at for _, at in asked]), [VIDEO_POPULARITY]
    )
    by_key = {(key, at): value for key, at, value in rows}
    expected = [by_key.get((key, at - (at - MONDAY) % (6 * HOUR)), 0.0) for key, at in asked]
    assert joined["video_watch_rate_7d"].tolist() == expected


def test_a_day_that_is_computed_again_replaces_what_the_join_sees(store, paths):
    publish(paths, CUSTOMER_ACTIVITY, table(CUSTOMER_ACTIVITY, [("c1", MONDAY, 1.0)]))
    publish(paths, CUSTOMER_ACTIVITY, table(CUSTOMER_ACTIVITY, [("c1", MONDAY, 5.0)]))
    asked = entities(customer_id=["c1"], at=[MONDAY])
    assert feast_store.historical(store, asked, [CUSTOMER_ACTIVITY])[COUNT].tolist() == [5.0]


def test_a_dataframe_is_taken_as_well_and_left_as_it_was(store, paths):
    publish(paths, CUSTOMER_ACTIVITY, table(CUSTOMER_ACTIVITY, [("c1", MONDAY, 1.0)]))
    frame = entities(customer_id=["c1"], at=[MONDAY]).to_pandas()
    before = frame.copy()
    assert feast_store.historical(store, frame, [CUSTOMER_ACTIVITY])[COUNT].tolist() == [1.0]
    pd.testing.assert_frame_equal(frame, before)


def test_a_service_gives_what_its_views_give(store, paths):
    for view, key in ((CUSTOMER_ACTIVITY, "c1"), (TERMINAL_RISK, "m1")):
        publish(paths, view, table(view, [(key, MONDAY, 4.0)]))
    frame = entities(customer_id=["c1"], terminal_id=["m1"], at=[MONDAY]).to_pandas()
    service = store.get_feature_service("fraud_v1")
    of_service = store.get_historical_features(entity_df=frame, features=service).to_df()
    of_views = feast_store.historical(store, frame, [CUSTOMER_ACTIVITY, TERMINAL_RISK])
    pd.testing.assert_frame_equal(of_service[of_views.columns], of_views)


def test_a_missing_feature_table_is_said_in_one_line(store):
    with pytest.raises(StateError, match="no feature table of customer_activity") as raised:
        feast_store.historical(store, entities(customer_id=["c1"], at=[MONDAY]), [CUSTOMER_ACTIVITY])
    assert raised.value.next_command == "workbook etl"


def test_a_frame_without_rows_is_refused(store, paths):
    publish(paths, CUSTOMER_ACTIVITY, table(CUSTOMER_ACTIVITY, [("c1", MONDAY, 1.0)]))
    with pytest.raises(StateError, match="without rows"):
        feast_store.historical(store, entities(customer_id=[], at=[]), [CUSTOMER_ACTIVITY])
