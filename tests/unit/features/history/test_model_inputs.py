"""Inputs of every event at once: the declarations' values, in the order of time, with ties, late rows and labels."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_lake import START, at, chargeback, payment, put
from stream_harness import rows_of

from reference_system.event_time import micros
from reference_system.features.history.fraud_inputs import fraud_inputs
from reference_system.features.history.model_inputs import features_at_events
from reference_system.features.history.recommendation_inputs import rating_inputs
from reference_system.features.history.requested_sums import sums_at
from reference_system.features.history.values import feature_rows
from reference_system.features.history.window_sums import features_of
from reference_system.lake import delta_lake
from reference_system.use_cases import topic_named
from reference_system.use_cases.fraud.features import (
    CUSTOMER_ACTIVITY,
    INPUTS,
    TERMINAL_RISK,
    VIEWS,
    request_inputs,
)
from reference_system.use_cases.recommendation.features import RATING_VIEWS, VIDEO_RATINGS, VIEWER_RATINGS
from reference_system.windows import empty_tail, evaluate, extend, row_time

DAYS = 60


def rating(number, hours, stars, *, viewer="v1", video="m1"):
    return {
        "event_timestamp": at(hours),
        "rating_id": f"r{number}",
        "viewer_id": viewer,
        "video_id": video,
        "rating": stars,
    }


@pytest.fixture
def lake(tmp_path):
    """Payments on whole hours, so that entities have ties, windows end on rows, and some labels come too late."""
    rng = np.random.default_rng(5)
    hours = rng.integers(0, DAYS * 24, 600).tolist()
    rows = [
        payment(n, hour, customer=f"c{rng.integers(5)}", terminal=f"t{rng.integers(4)}", amount=float(n % 90))
        for n, hour in enumerate(hours)
    ]
    put(tmp_path / "lake", "transactions", *rows)
    labels = []
    for n in range(0, 600, 5):
        days = (1, 7, 7, 8)[n // 5 % 4]
        label = chargeback(n, hours[n], hours[n] + 24 * days, terminal=rows[n]["terminal_id"])
        labels.append(label)
    put(tmp_path / "lake", "chargebacks", *labels)
    return tmp_path / "lake"


def nowhere(lake):
    return lake.parent / "order"


def by_key(view, lake):
    """What history says, by entity and moment."""
    table = feature_rows(view, lake, START, START + timedelta(days=DAYS + 1))
    keys = zip(table[view.entity].to_pylist(), table["event_timestamp"].to_pylist(), strict=True)
    return dict(zip(keys, np.column_stack([table[name].to_numpy() for name in view.features]), strict=True))


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_the_values_are_those_of_history(lake, view):
    events = delta_lake.read(lake, topic_named("transactions")).read_all()
    values = features_at_events(view, lake, events)
    history = by_key(view, lake)

    keys = zip(events[view.entity].to_pylist(), events["event_timestamp"].to_pylist(), strict=True)
    np.testing.assert_allclose(values, [history[key] for key in keys], rtol=0, atol=1e-12)
    assert len(history) < len(events), "there are no ties in this world"


def test_a_late_payment_asks_but_is_in_no_window(tmp_path):
    topic = topic_named("transactions")
    rows = [topic.record(schema_version=1, **payment(n, hour)) for n, hour in enumerate((0, 1, 2))]
    delta_lake.append(
        tmp_path, topic, delta_lake.to_table(topic, rows, [0] * 3, [0, 1, 2], [False, True, False]), versions={}
    )
    found = fraud_inputs(tmp_path, tmp_path / "order")

    assert found["transaction_id"].to_pylist() == ["p0", "p1", "p2"]
    assert found["customer_transaction_count_1d"].to_pylist() == [1.0, 1.0, 2.0]


def test_the_columns_are_the_id_and_the_inputs_of_the_model_in_their_order(lake):
    found = fraud_inputs(lake, nowhere(lake))

    assert found.column_names == ["transaction_id", *INPUTS]
    assert {str(kind) for kind in found.schema.types[1:]} == {"double"}
    payments = delta_lake.read(lake, topic_named("transactions")).read_all().to_pylist()
    wanted = {row["transaction_id"]: request_inputs(row["amount"], row["event_timestamp"]) for row in payments}
    rows = zip(*(found[name].to_pylist() for name in ("transaction_id", *INPUTS[:3])), strict=True)
    assert {key: values for key, *values in rows} == {key: list(values) for key, values in wanted.items()}


def test_live_rows_are_ordered_by_time_then_by_where_they_were_read(tmp_path):
    topic = topic_named("transactions")
    rows = [topic.record(schema_version=1, **payment(n, hour)) for n, hour in enumerate((5, 1, 1, 1))]
    delta_lake.append(tmp_path, topic, delta_lake.to_table(topic, rows, [0, 1, 0, 0], [9, 4, 8, 7]), versions={})

    assert fraud_inputs(tmp_path, tmp_path / "order")["transaction_id"].to_pylist() == ["p3", "p2", "p1", "p0"]


def test_imported_rows_are_ordered_by_time_then_by_their_row(tmp_path):
    put(tmp_path / "lake", "transactions", *(payment(n, hour) for n, hour in enumerate((5, 1, 1, 1))))
    order = tmp_path / "order"
    order.mkdir()
    for number, (ids, rows) in enumerate(((["p0", "p1"], [2, 9]), (["p3", "p2"], [3, 4]))):
        pq.write_table(pa.table({"transaction_id": ids, "source_row": rows}), order / f"{number}.parquet")

    assert fraud_inputs(tmp_path / "lake", order)["transaction_id"].to_pylist() == ["p3", "p2", "p1", "p0"]


def test_an_empty_lake_gives_the_columns_without_rows(tmp_path):
    found = fraud_inputs(tmp_path, tmp_path / "order")

    assert (found.num_rows, found.column_names) == (0, ["transaction_id", *INPUTS])
    assert rating_inputs(tmp_path, tmp_path / "order").num_rows == 0


# Ratings


@pytest.fixture
def rated(tmp_path):
    """Ratings of more than a year, some at midnight, some of one viewer at one moment."""
    rng = np.random.default_rng(6)
    hours = rng.integers(0, 500 * 4, 150) * 6
    rows = [
        rating(n, int(hour), float(rng.integers(1, 11)) / 2, viewer=f"v{rng.integers(3)}", video=f"m{rng.integers(3)}")
        for n, hour in enumerate(hours)
    ]
    put(tmp_path / "lake", "ratings", *rows)
    return tmp_path / "lake"


def test_a_rating_is_no_input_to_itself_nor_to_another_of_its_moment(tmp_path):
    put(tmp_path, "ratings", rating(0, 0, 5.0), rating(1, 1, 2.0), rating(2, 1, 3.0), rating(3, 2, 1.0))
    found = rating_inputs(tmp_path, tmp_path / "order")

    assert found["viewer_rating_count_30d"].to_pylist() == [0.0, 1.0, 1.0, 3.0]
    assert found["viewer_mean_rating_30d"].to_pylist() == pytest.approx([0.0, 5.0, 5.0, 10 / 3])


def test_a_rating_known_by_its_date_is_no_input_to_its_own_video_row(tmp_path):
    put(tmp_path, "ratings", *(rating(day, 24 * day, 4.0, viewer=f"v{day}") for day in range(4)))
    found = rating_inputs(tmp_path, tmp_path / "order")

    assert found["video_rating_count_30d"].to_pylist() == [0.0, 1.0, 2.0, 3.0]


def test_ratings_carry_who_what_and_when(rated):
    found = rating_inputs(rated, nowhere(rated))
    times = found["event_timestamp"].to_pylist()

    assert found.column_names[:4] == ["rating_id", "viewer_id", "video_id", "event_timestamp"]
    assert times == sorted(times)
    assert str(found["event_timestamp"].type) == "timestamp[us, tz=UTC]"


@pytest.mark.parametrize("view", RATING_VIEWS, ids=lambda view: view.name)
def test_history_stream_and_request_agree_on_ratings(rated, view):
    topic = topic_named("ratings")
    table = delta_lake.read(rated, topic).read_all().sort_by("event_timestamp")
    events = [topic.record(**row) for row in table.select(topic.record.__struct_fields__).to_pylist()]
    tails = {}
    for event in events:
        for key, time, values in rows_of(view, "ratings", event):
            tails.setdefault(key, []).append((time, values))
    wanted = []
    for event in events:
        now = micros(event.event_timestamp)
        known = [row for row in tails[getattr(event, view.entity)] if row_time(view, row[0]) <= now]
        times = np.array([time for time, _ in known], np.int64)
        values = np.array([row for _, row in known]).reshape(-1, len(view.columns))
        wanted.append(evaluate(view, extend(view, empty_tail(view), times, values), now))

    found = features_at_events(view, rated, table)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    moments = np.array([micros(event.event_timestamp) for event in events])
    asked = features_of(view, sums_at(view, rated, table[view.entity], moments))
    np.testing.assert_allclose(found, asked, rtol=0, atol=1e-9)
    if view is VIEWER_RATINGS:
        table_of_history = feature_rows(view, rated, START, START + timedelta(days=501))
        assert table_of_history.num_rows <= len(events)
    else:
        assert view is VIDEO_RATINGS
    assert found.any()


def test_both_fraud_views_take_the_events_that_ask_into_their_windows_once(tmp_path):
    put(tmp_path, "transactions", payment(0, 0), payment(1, 24 * 8))
    events = delta_lake.read(tmp_path, topic_named("transactions")).read_all().sort_by("event_timestamp")

    assert features_at_events(CUSTOMER_ACTIVITY, tmp_path, events)[:, 0].tolist() == [1.0, 1.0]
    assert features_at_events(TERMINAL_RISK, tmp_path, events)[:, 1].tolist() == [0.0, 1.0]
