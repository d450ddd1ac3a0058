"""Windows: exact edges, tails, tiles, and a naive recount of everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_system.use_cases.fraud.events import ChargebackReported, Transaction
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK
from reference_system.use_cases.recommendation.events import PageShown, VideoWatched
from reference_system.use_cases.recommendation.features import VIDEO_POPULARITY, VIEWER_ACTIVITY
from reference_system.windows import (
    MICROS_PER_DAY,
    Rows,
    Tail,
    WindowedView,
    empty_tail,
    evaluate,
    extend,
    micros,
    moment_of,
    ratio,
    row_time,
    rows_of,
    total,
    unpack_tail,
)

MONDAY = datetime(2025, 3, 3, tzinfo=UTC)
T0 = micros(MONDAY)
HOUR = MICROS_PER_DAY // 24


def view(*windows, tile: timedelta | None = None) -> WindowedView:
    return WindowedView(
        name="payments",
        entity="customer_id",
        rows=(Rows(topic="transactions", entity="customer_id", values=(("amount", "amount"), ("count", 1.0))),),
        windows=windows,
        tile=tile,
    )


COUNT_1D = view(total("count_1d", "count", days=1))
COUNT_1D_DELAYED = view(total("count_1d", "count", days=1, delay_days=7))
MEAN_1D = view(ratio("mean_1d", "amount", "count", days=1))
TILED = view(total("count_1d", "count", days=1), tile=timedelta(hours=6))


def tail_of(of: WindowedView, rows: list[tuple[int, float]]) -> Tail:
    """A tail with a row for each (time, amount)."""
    times = np.array([time for time, _ in rows], np.int64)
    values = np.array([[amount, 1.0] for _, amount in rows], np.float64).reshape(len(rows), 2)
    return extend(of, empty_tail(of), times, values)


def value(of: WindowedView, rows: list[tuple[int, float]], as_of: int, **own: float) -> float:
    (found,) = evaluate(of, tail_of(of, rows), as_of, own or None)
    return float(found)


def test_an_event_at_the_moment_of_the_request_is_in_the_window():
    assert value(COUNT_1D, [(T0, 5.0)], T0) == 1.0


def test_an_event_one_microsecond_after_the_request_is_not():
    assert value(COUNT_1D, [(T0 + 1, 5.0)], T0) == 0.0


def test_an_event_exactly_a_width_ago_has_left_the_window():
    assert value(COUNT_1D, [(T0, 5.0)], T0 + MICROS_PER_DAY) == 0.0


def test_an_event_a_microsecond_less_than_a_width_ago_is_still_there():
    assert value(COUNT_1D, [(T0, 5.0)], T0 + MICROS_PER_DAY - 1) == 1.0


@pytest.mark.parametrize(("later", "counted"), [(-1, 0.0), (0, 1.0), (MICROS_PER_DAY - 1, 1.0), (MICROS_PER_DAY, 0.0)])
def test_a_delayed_window_has_its_edges_shifted_by_the_delay(later, counted):
    assert value(COUNT_1D_DELAYED, [(T0, 5.0)], T0 + 7 * MICROS_PER_DAY + later) == counted


def test_a_ratio_over_an_empty_window_is_zero():
    assert value(MEAN_1D, [], T0) == 0.0


def test_a_window_that_has_emptied_since_the_last_event_is_empty():
    assert value(MEAN_1D, [(T0, 5.0)], T0 + 30 * MICROS_PER_DAY) == 0.0


def test_the_requests_own_row_counts_in_windows_without_delay():
    assert value(MEAN_1D, [(T0 - 1, 4.0)], T0, amount=8.0, count=1.0) == 6.0


def test_the_requests_own_row_does_not_count_in_delayed_windows():
    assert value(COUNT_1D_DELAYED, [], T0, amount=8.0, count=1.0) == 0.0


def test_the_own_row_gives_what_the_row_in_the_tail_would_have_given():
    before = [(T0 - HOUR, 4.0), (T0 - 2 * HOUR, 1.5)]
    assert value(MEAN_1D, before, T0, amount=8.0, count=1.0) == value(MEAN_1D, [*before, (T0, 8.0)], T0)


def test_a_tiled_event_counts_from_the_end_of_its_tile_on():
    event = T0 + HOUR
    assert value(TILED, [(event, 1.0)], T0 + 6 * HOUR - 1) == 0.0
    assert value(TILED, [(event, 1.0)], T0 + 6 * HOUR) == 1.0


def test_an_event_on_a_tile_end_belongs_to_the_tile_that_ends_there():
    assert row_time(TILED, T0) == T0
    assert row_time(TILED, T0 + 1) == T0 + 6 * HOUR


def test_a_tiled_tail_has_one_row_for_each_tile():
    found = tail_of(TILED, [(T0 + minute * HOUR // 60, 2.0) for minute in range(1, 600)])
    assert found.times.tolist() == [T0 + 6 * HOUR, T0 + 12 * HOUR]
    assert found.values.tolist() == [[720.0, 360.0], [478.0, 239.0]]


def test_a_tiled_tail_keeps_at_most_the_tiles_of_its_horizon_and_one_day():
    found = tail_of(TILED, [(T0 + number * HOUR, 1.0) for number in range(24 * 90)])
    assert len(found.times) <= 2 * 24 // 6


def test_windows_that_end_inside_a_tile_are_refused():
    with pytest.raises(ValueError, match="whole tiles"):
        view(total("count_1d", "count", days=1), tile=timedelta(hours=7))


def test_a_row_older_than_horizon_and_slack_leaves_the_tail():
    found = tail_of(COUNT_1D, [(T0, 1.0), (T0 + 2 * MICROS_PER_DAY, 1.0)])
    assert found.times.tolist() == [T0 + 2 * MICROS_PER_DAY]


def test_a_row_inside_horizon_and_slack_stays():
    found = tail_of(COUNT_1D, [(T0, 1.0), (T0 + 2 * MICROS_PER_DAY - 1, 1.0)])
    assert len(found.times) == 2


def test_extending_by_nothing_changes_nothing():
    tail = empty_tail(COUNT_1D)
    assert extend(COUNT_1D, tail, tail.times, tail.values) is tail


def test_bytes_that_are_no_whole_number_of_rows_are_refused():
    with pytest.raises(ValueError, match="no whole number of rows"):
        unpack_tail(COUNT_1D, b"\0" * 25)


@pytest.mark.parametrize("nothing", [None, b""])
def test_no_bytes_are_an_empty_tail(nothing):
    assert len(unpack_tail(COUNT_1D, nothing).times) == 0


def test_a_busy_tail_takes_24_bytes_a_row():
    assert len(tail_of(COUNT_1D, [(T0, 1.0), (T0 + 1, 2.0)]).pack()) == 48


def test_moments_survive_the_way_to_microseconds_and_back():
    moment = datetime(2025, 3, 3, 12, 34, 56, 789_123, tzinfo=UTC)
    assert moment_of(micros(moment)) == moment


def chargeback(days_late: float) -> ChargebackReported:
    return ChargebackReported(
        schema_version=1,
        event_timestamp=MONDAY,
        created_timestamp=MONDAY + timedelta(days=days_late),
        chargeback_id="b1",
        transaction_id="t1",
        customer_id="c1",
        terminal_id="m1",
    )


def test_a_chargeback_within_the_label_delay_is_a_row_at_the_time_of_the_payment():
    ((key, time, row),) = rows_of(TERMINAL_RISK, "chargebacks", chargeback(7))
    assert (key, time) == ("m1", T0)
    assert dict(zip(TERMINAL_RISK.columns, row, strict=True)) == {"frauds": 1.0, "transactions": 0.0}


def test_a_chargeback_after_the_label_delay_is_no_row():
    assert list(rows_of(TERMINAL_RISK, "chargebacks", chargeback(7.001))) == []


def test_a_transaction_is_a_row_with_its_amount():
    event = Transaction(
        schema_version=1, event_timestamp=MONDAY, transaction_id="t1", customer_id="c1", terminal_id="m1", amount=9.5
    )
    ((key, _, row),) = rows_of(CUSTOMER_ACTIVITY, "transactions", event)
    assert key == "c1"
    assert dict(zip(CUSTOMER_ACTIVITY.columns, row, strict=True)) == {"amount": 9.5, "transactions": 1.0}


def test_a_page_is_a_row_for_each_of_its_videos():
    page = PageShown(
        schema_version=1,
        event_timestamp=MONDAY,
        impression_id="i1",
        session_id="s1",
        viewer_id="u1",
        video_ids=["v1", "v2"],
        propensities=[0.5, 0.5],
        policy="random",
    )
    assert [key for key, _, _ in rows_of(VIDEO_POPULARITY, "impressions", page)] == ["v1", "v2"]
    assert list(rows_of(VIEWER_ACTIVITY, "impressions", page)) == []


def test_an_indicator_is_one_in_its_own_column_only():
    watch = VideoWatched(
        schema_version=1,
        event_timestamp=MONDAY,
        watch_id="w1",
        impression_id="i1",
        viewer_id="u1",
        video_id="v1",
        category="news",
        position=1,
        watch_seconds=10.0,
        completion=0.25,
    )
    ((_, _, row),) = rows_of(VIEWER_ACTIVITY, "watches", watch)
    ones = {name for name, number in zip(VIEWER_ACTIVITY.columns, row, strict=True) if number}
    assert ones == {"news", "watches", "completion"}


# Times on a coarse grid, so that edges and ties are hit often, and a few in between.
times = st.one_of(
    st.integers(0, 30).map(lambda n: n * 6 * HOUR), st.integers(0, 7 * MICROS_PER_DAY), st.integers(0, 5)
).map(lambda time: T0 + time)
histories = st.lists(st.tuples(times, st.floats(0.0, 1000.0)), max_size=30)
windows = st.builds(
    lambda days, delay, mean: (
        ratio("x", "amount", "count", days=days, delay_days=delay)
        if mean
        else total("x", "amount", days=days, delay_days=delay)
    ),
    st.sampled_from([0.25, 0.5, 1.0, 2.5]),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.booleans(),
)


def recount(of: WindowedView, rows: list[tuple[int, float]], as_of: int) -> float:
    """What the definition says, with no regard for speed."""
    (window,) = of.windows
    end = as_of - round(window.delay_days * MICROS_PER_DAY)
    start = end - round(window.days * MICROS_PER_DAY)
    amounts = [amount for time, amount in rows if start < row_time(of, time) <= end]
    if window.denominator is None:
        return sum(amounts)
    return sum(amounts) / len(amounts) if amounts else 0.0


@given(rows=histories, window=windows, tiled=st.booleans(), as_of=times, cut=st.integers(0, 30))
def test_a_tail_in_two_steps_says_what_a_recount_says(rows, window, tiled, as_of, cut):
    of = view(window, tile=timedelta(hours=6) if tiled else None)
    # A request may look from up to a day before the newest row.
    newest = max([time for time, _ in rows], default=T0)
    as_of = max(as_of, newest - MICROS_PER_DAY + 6 * HOUR)
    tail = tail_of(of, rows[:cut])
    rest = rows[cut:]
    tail = extend(
        of,
        tail,
        np.array([time for time, _ in rest], np.int64),
        np.array([[amount, 1.0] for _, amount in rest]).reshape(len(rest), 2),
    )
    (found,) = evaluate(of, tail, as_of)
    assert found == pytest.approx(recount(of, rows, as_of), rel=1e-9, abs=1e-9)


@given(rows=histories)
def test_a_tail_survives_packing(rows):
    tail = tail_of(COUNT_1D, rows)
    again = unpack_tail(COUNT_1D, tail.pack())
    assert again.times.tolist() == tail.times.tolist()
    assert again.values.tolist() == tail.values.tolist()


@given(rows=histories, as_of=times)
def test_a_tiled_value_is_constant_between_two_tile_ends(rows, as_of):
    of = view(total("count", "count", days=1, delay_days=0.25), tile=timedelta(hours=6))
    tail = tail_of(of, rows)
    last_tile_end = as_of // (6 * HOUR) * (6 * HOUR)
    assert evaluate(of, tail, as_of).tolist() == evaluate(of, tail, last_tile_end).tolist()
