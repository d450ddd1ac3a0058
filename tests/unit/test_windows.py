"""Windows: exact edges, tails, tiles, and a naive recount of everything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_system import window_sums
from reference_system.event_time import MICROS_PER_DAY, micros, moment_of
from reference_system.windows import (
    Rows,
    Tail,
    WindowedView,
    empty_tail,
    evaluate,
    evaluate_state,
    extend,
    ratio,
    row_time,
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


@given(rows=histories, data=st.data(), cut=st.integers(0, 30))
def test_the_bytes_of_an_exact_tail_do_not_depend_on_the_order_of_arrival(rows, data, cut):
    arrival = data.draw(st.permutations(rows))
    found = tail_of(COUNT_1D, arrival[:cut])
    for time, amount in arrival[cut:]:
        found = extend(COUNT_1D, found, np.array([time]), np.array([[amount, 1.0]]))
    assert found.pack() == tail_of(COUNT_1D, rows).pack()


def test_rows_of_equal_time_are_ordered_by_their_values():
    found = tail_of(COUNT_1D, [(T0, 3.0), (T0, -0.0), (T0 - 1, 9.0), (T0, 2.0), (T0, 0.0)])
    assert found.values[:, 0].tolist() == [9.0, 0.0, 0.0, 2.0, 3.0]
    assert not np.signbit(found.values).any()


def test_bytes_are_the_times_and_then_each_column():
    packed = tail_of(COUNT_1D, [(T0, 5.0), (T0 + 1, 7.0)]).pack()
    assert np.frombuffer(packed[:16], "<i8").tolist() == [T0, T0 + 1]
    assert np.frombuffer(packed[16:], "<f8").tolist() == [5.0, 7.0, 1.0, 1.0]


# As many windows as a view may have: nested ones, some with a delay, sums and ratios of both columns.
SPANS = (0.25, 1, 2)
DELAYS = (0, 1)
mixed = view(
    *(total(f"count_{days}_{delay}", "count", days=days, delay_days=delay) for days in SPANS for delay in DELAYS),
    *(total(f"amount_{days}", "amount", days=days) for days in SPANS),
    *(ratio(f"mean_{days}_{d}", "amount", "count", days=days, delay_days=d) for days in SPANS for d in DELAYS),
)


def exactly(of: WindowedView, rows: list[tuple[int, float]], as_of: int, own: float | None) -> list[float]:
    """The definition in fractions: no rounding before the end."""
    counted = [(time, Fraction(amount)) for time, amount in rows]
    found = []
    for window in of.windows:
        end = as_of - window.delay_micros
        inside = [amount for time, amount in counted if end - window.width_micros < row_time(of, time) <= end]
        if own is not None and not window.delay_micros:
            inside.append(Fraction(own))
        sums = {"amount": sum(inside), "count": len(inside)}
        if window.denominator is None:
            found.append(float(sums[window.numerator]))
        else:
            per = sums[window.denominator]
            found.append(float(sums[window.numerator] / per) if per else 0.0)
    return found


@pytest.mark.parametrize("short", [0, 10**6], ids=["arrays", "bytes"])
@given(rows=histories, as_of=times, own=st.one_of(st.none(), st.floats(0.0, 1000.0)))
def test_a_packed_tail_is_evaluated_as_the_definition_says_whichever_way_it_is_added_up(short, rows, as_of, own):
    newest = max([time for time, _ in rows], default=T0)
    as_of = max(as_of, newest - MICROS_PER_DAY)
    own_row = None if own is None else {"amount": own, "count": 1.0}
    tail = tail_of(mixed, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_sums, "_SHORT_ROWS", short)
        found = evaluate_state(mixed, tail.pack(), as_of, own_row)
    assert found == pytest.approx(exactly(mixed, rows, as_of, own), rel=1e-9, abs=1e-9)
    assert evaluate(mixed, tail, as_of, own_row).tolist() == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize("count", [399, 400, 401, 5_000])
def test_many_rows_add_up_to_what_exact_arithmetic_gives(count):
    chance = np.random.default_rng(count)
    times = (T0 + chance.integers(3 * MICROS_PER_DAY, size=count)).tolist()
    rows = list(zip(times, chance.lognormal(3, 2, count).round(2).tolist(), strict=True))
    as_of = T0 + 3 * MICROS_PER_DAY
    found = evaluate_state(mixed, tail_of(mixed, rows).pack(), as_of)
    assert found == pytest.approx(exactly(mixed, rows, as_of, None), rel=1e-9)


def test_no_state_is_evaluated_as_an_empty_one():
    own = {"amount": 8.0, "count": 1.0}
    assert evaluate_state(MEAN_1D, None, T0) == evaluate_state(MEAN_1D, b"", T0) == [0.0]
    assert evaluate_state(MEAN_1D, None, T0, own) == [8.0]


def test_a_packed_state_that_is_no_whole_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="no whole number of rows"):
        evaluate_state(COUNT_1D, b"\0" * 25, T0)


def test_a_moment_more_than_a_day_older_than_the_newest_row_is_answered_from_what_is_left():
    rows = [(T0, 1.0), (T0 + HOUR, 1.0), (T0 + 2 * MICROS_PER_DAY, 1.0)]
    assert value(COUNT_1D, rows, T0 + 2 * HOUR) == 1.0  # the first row has left the tail: two would be true


@given(rows=histories, as_of=times)
def test_the_value_of_a_quiet_entity_is_exact(rows, as_of):
    newest = max([time for time, _ in rows], default=T0)
    as_of = max(as_of, newest - MICROS_PER_DAY)
    counts = [sum(as_of - days * MICROS_PER_DAY < time <= as_of for time, _ in rows) for days in SPANS]
    assert evaluate(mixed, tail_of(mixed, rows), as_of)[[0, 2, 4]].tolist() == counts


@given(rows=histories, as_of=times, delay=st.sampled_from([0.0, 0.25, 1.0]))
def test_the_value_of_a_busy_entity_is_the_exact_one_of_the_last_tile_end(rows, as_of, delay):
    windows = [total(f"count_{days}", "count", days=days, delay_days=delay) for days in SPANS]
    exact, tiled = view(*windows), view(*windows, tile=timedelta(hours=6))
    newest = max([time for time, _ in rows], default=T0)
    as_of = max(as_of, newest)
    tile_end = as_of // (6 * HOUR) * (6 * HOUR)
    known = [(time, amount) for time, amount in rows if time <= tile_end]
    assert (
        evaluate(tiled, tail_of(tiled, rows), as_of).tolist()
        == evaluate(exact, tail_of(exact, known), tile_end).tolist()
    )


@given(rows=histories, as_of=times)
def test_the_error_of_a_busy_entity_is_at_most_what_happened_in_the_tiles_at_the_windows_two_edges(rows, as_of):
    exact, tiled = COUNT_1D, TILED
    newest = max([time for time, _ in rows], default=T0)
    as_of = max(as_of, newest)
    tile_end = as_of // (6 * HOUR) * (6 * HOUR)
    at_edges = sum(
        edge < time <= as_of - days * MICROS_PER_DAY
        for time, _ in rows
        for days, edge in ((0, tile_end), (1, tile_end - MICROS_PER_DAY))
    )
    (found,), (wanted,) = (evaluate(of, tail_of(of, rows), as_of) for of in (tiled, exact))
    assert abs(found - wanted) <= at_edges


@given(rows=histories, as_of=times)
def test_a_tiled_value_is_constant_between_two_tile_ends(rows, as_of):
    of = view(total("count", "count", days=1, delay_days=0.25), tile=timedelta(hours=6))
    tail = tail_of(of, rows)
    last_tile_end = as_of // (6 * HOUR) * (6 * HOUR)
    assert evaluate(of, tail, as_of).tolist() == evaluate(of, tail, last_tile_end).tolist()
