"""The heart of the platform: history, stream and request say the same.

Random events go into a lake, out of order. Then, at every moment that history answers, four things must agree:
the SQL over the lake, a tail that grew event by event, a tail from a snapshot of the lake, and (for fraud) a recount
that knows nothing of declarations.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stream_harness import grow, rows_of

from reference_system.event_time import micros, moment_of
from reference_system.events import Event
from reference_system.features.history.states import states
from reference_system.features.history.values import feature_rows
from reference_system.lake import delta_lake
from reference_system.use_cases import topic_named
from reference_system.use_cases.fraud.events import ChargebackReported, ChargebackReversed, Transaction
from reference_system.use_cases.fraud.features import CUSTOMER_ACTIVITY, TERMINAL_RISK, own_row
from reference_system.use_cases.recommendation.events import CATEGORIES, PageShown, VideoWatched
from reference_system.use_cases.recommendation.features import VIDEO_POPULARITY, VIEWER_ACTIVITY
from reference_system.windows import WindowedView, evaluate, row_time, unpack_tail

START = datetime(2025, 2, 3, tzinfo=UTC)
SPAN = timedelta(days=50)
END = START + SPAN + timedelta(days=1)
QUARTER = timedelta(hours=6)
WINDOWED = (CUSTOMER_ACTIVITY, TERMINAL_RISK, VIEWER_ACTIVITY, VIDEO_POPULARITY)
slow = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])

MICRO = timedelta(microseconds=1)
# Days that lie a window or a delay apart, tile ends and a microsecond to either side: edges and ties are hit often.
moments = st.one_of(
    st.builds(
        lambda day, quarter, micro: START + timedelta(days=day) + quarter * QUARTER + micro * MICRO,
        st.sampled_from([1, 2, 8, 9, 15, 31, 38, 39, 45]),
        st.sampled_from([0, 0, 1]),
        st.sampled_from([0, 0, -1, 1]),
    ),
    st.integers(0, SPAN // MICRO).map(lambda n: START + n * MICRO),
)
lateness = st.sampled_from([timedelta(0), timedelta(days=1), timedelta(days=7), timedelta(days=7) + MICRO, QUARTER])
reversed_after = st.builds(
    lambda days, micro: timedelta(days=days) + micro * MICRO,
    st.sampled_from([1, 7, 8, 10, 14, 37, 44]),
    st.sampled_from([0, -1, 1]),
)
Known = tuple[datetime, str, Event]


def payment(number: int, moment: datetime, who: int, where: int, amount: float) -> Transaction:
    return Transaction(
        schema_version=1,
        event_timestamp=moment,
        transaction_id=f"t{number}",
        customer_id=f"c{who}",
        terminal_id=f"m{where}",
        amount=amount,
    )


def chargeback(of: Transaction, after: timedelta, number: int = 0) -> ChargebackReported:
    return ChargebackReported(
        schema_version=1,
        event_timestamp=of.event_timestamp,
        created_timestamp=of.event_timestamp + after,
        chargeback_id=f"b{number}-{of.transaction_id}",
        transaction_id=of.transaction_id,
        customer_id=of.customer_id,
        terminal_id=of.terminal_id,
    )


def reversal(of: ChargebackReported, moment: datetime) -> ChargebackReversed:
    return ChargebackReversed(
        schema_version=1,
        event_timestamp=of.event_timestamp,
        created_timestamp=moment,
        chargeback_id=of.chargeback_id,
        transaction_id=of.transaction_id,
        customer_id=of.customer_id,
        terminal_id=of.terminal_id,
    )


def page(number: int, moment: datetime, viewer: int, videos: Sequence[int]) -> PageShown:
    return PageShown(
        schema_version=1,
        event_timestamp=moment,
        impression_id=f"i{number}",
        session_id="s1",
        viewer_id=f"u{viewer}",
        video_ids=[f"v{video}" for video in videos],
        propensities=[0.5 for _ in videos],
        policy="random",
    )


def watch(number: int, moment: datetime, viewer: int, video: int, completion: float) -> VideoWatched:
    return VideoWatched(
        schema_version=1,
        event_timestamp=moment,
        watch_id=f"w{number}",
        impression_id="i0",
        viewer_id=f"u{viewer}",
        video_id=f"v{video}",
        category=CATEGORIES[video % len(CATEGORIES)],
        position=1,
        watch_seconds=10.0,
        completion=completion,
    )


@st.composite
def worlds(draw: st.DrawFn) -> list[Known]:
    """Events in the order in which they become known: (moment it is known, topic, event)."""
    people, amounts = st.integers(0, 2), st.floats(0.0, 500.0)
    known: list[Known] = []
    for number, row in enumerate(draw(st.lists(st.tuples(moments, people, people, amounts), max_size=25))):
        paid = payment(number, *row)
        known.append((paid.event_timestamp, "transactions", paid))
        for report in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
            late = chargeback(paid, draw(lateness), report)
            known.append((late.created_timestamp, "chargebacks", late))
            if draw(st.booleans()):
                # Before the chargeback is known, with it, at edges of the windows that have it, and long after.
                back = reversal(late, late.event_timestamp + draw(reversed_after))
                known.append((back.created_timestamp, "chargeback-reversals", back))
    for number, row in enumerate(
        draw(st.lists(st.tuples(moments, people, st.lists(people, min_size=1, max_size=4)), max_size=15))
    ):
        shown = page(number, *row)
        known.append((shown.event_timestamp, "impressions", shown))
    watches = draw(st.lists(st.tuples(moments, people, people, st.floats(0.0, 1.0)), max_size=15))
    for number, row in enumerate(watches):
        seen = watch(number, *row)
        known.append((seen.event_timestamp, "watches", seen))
    return sorted(known, key=lambda each: each[0])


def write(lake: Path, known: Sequence[Known]) -> None:
    """Put the events into the lake, topic by topic, in an order of their own."""
    by_topic = defaultdict(list)
    for _, topic, event in reversed(known):
        by_topic[topic].append(event)
    for topic, events in by_topic.items():
        table = delta_lake.to_table(topic_named(topic), events, [0] * len(events), range(len(events)))
        delta_lake.append(lake, topic_named(topic), table, versions={0: len(events) - 1})


def answers(
    view: WindowedView, lake: Path, start: datetime = START, end: datetime = END
) -> dict[tuple[str, int], list]:
    """What history says: (entity, moment) → values."""
    table = feature_rows(view, lake, start, end)
    keys = table[view.entity].to_pylist()
    moments_asked = [micros(moment) for moment in table["event_timestamp"].to_pylist()]
    rows = np.column_stack([table[name].to_numpy() for name in view.features]) if len(keys) else []
    found = {(key, time): list(row) for key, time, row in zip(keys, moments_asked, rows, strict=True)}
    assert len(found) == table.num_rows, "one row for each entity and moment"
    return found


@slow
@given(known=worlds(), view=st.sampled_from(WINDOWED))
def test_history_stream_and_snapshot_agree_at_every_moment(known, view):
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        write(lake, known)
        streamed: dict[str, bytes] = {}
        done = 0
        found = answers(view, lake)
        asked = sorted({time for _, time in found})
        for time in asked:
            new = done
            while new < len(known) and micros(known[new][0]) <= time:
                new += 1
            for _, topic, event in known[done:new]:
                grow(view, streamed, topic, event)
            done = new
            keys = [key for key, moment in found if moment == time]
            # A snapshot for every moment would be slow: the first, the last and some in between.
            sampled = time in asked[:: max(1, len(asked) // 3)] or time == asked[-1]
            snapshot = {key: state for key, _, state in states(view, lake, moment_of(time))} if sampled else {}
            for key in keys:
                online = evaluate(view, unpack_tail(view, streamed.get(key)), time)
                assert found[key, time] == pytest.approx(online, rel=1e-9, abs=1e-9)
                if sampled:
                    of_lake = evaluate(view, unpack_tail(view, snapshot.get(key)), time)
                    assert of_lake == pytest.approx(online, rel=1e-9, abs=1e-9)


@slow
@given(known=worlds())
def test_fraud_features_are_what_a_recount_of_the_events_says(known):
    payments = [event for _, topic, event in known if topic == "transactions"]
    reports = [
        event
        for _, topic, event in known
        if topic == "chargebacks" and event.created_timestamp <= event.event_timestamp + timedelta(days=7)
    ]
    reversals = [event for _, topic, event in known if topic == "chargeback-reversals"]
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        write(lake, known)
        customers = answers(CUSTOMER_ACTIVITY, lake)
        terminals = answers(TERMINAL_RISK, lake)
    for asking in payments:
        now = asking.event_timestamp
        counts, means, busy, risks = [], [], [], []
        taken_back = {each.chargeback_id for each in reversals if each.created_timestamp <= now}
        frauds = {
            each.transaction_id
            for each in reports
            if each.created_timestamp <= now and each.chargeback_id not in taken_back
        }
        for days in (1, 7, 30):
            own = [
                each.amount
                for each in payments
                if each.customer_id == asking.customer_id and now - timedelta(days=days) < each.event_timestamp <= now
            ]
            end = now - timedelta(days=7)
            there = [
                each.transaction_id in frauds
                for each in payments
                if each.terminal_id == asking.terminal_id and end - timedelta(days=days) < each.event_timestamp <= end
            ]
            counts.append(len(own))
            means.append(sum(own) / len(own))
            busy.append(len(there))
            risks.append(sum(there) / len(there) if there else 0.0)
        time = micros(now)
        assert customers[asking.customer_id, time] == pytest.approx([*counts, *means], rel=1e-9, abs=1e-9)
        assert terminals[asking.terminal_id, time] == pytest.approx([*busy, *risks], rel=1e-9, abs=1e-9)


@slow
@given(known=worlds(), view=st.sampled_from(WINDOWED), cut=st.integers(1, 51))
def test_two_backfills_give_what_one_gives(known, view, cut):
    middle = START + timedelta(days=cut)
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        write(lake, known)
        whole = answers(view, lake)
        parts = {**answers(view, lake, START, middle), **answers(view, lake, middle, END)}
    assert whole.keys() == parts.keys()
    for at, row in whole.items():
        assert parts[at] == pytest.approx(row, rel=1e-9, abs=1e-9)


@slow
@given(known=worlds())
def test_a_tiled_view_answers_at_every_tile_end_with_a_row_in_its_horizon(known):
    view = VIDEO_POPULARITY
    expected = set()
    for _, topic, event in known:
        for key, time, _ in rows_of(view, topic, event):
            first = row_time(view, time)
            expected |= {(key, first + number * view.tile_micros) for number in range(30 * 4 + 1)}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "lake", known)
        found = set(answers(view, Path(folder) / "lake"))
    assert found == {(key, time) for key, time in expected if micros(START) <= time < micros(END)}


def test_history_counts_the_payment_itself_as_the_request_counts_its_own_row(tmp_path):
    payments = [payment(n, START + timedelta(hours=7 * n), 1, 1, 10.0 + n) for n in range(20)]
    known = [(each.event_timestamp, "transactions", each) for each in payments]
    write(tmp_path / "lake", known)
    found = answers(CUSTOMER_ACTIVITY, tmp_path / "lake")
    streamed: dict[str, bytes] = {}
    for asking in payments:
        time = micros(asking.event_timestamp)
        tail = unpack_tail(CUSTOMER_ACTIVITY, streamed.get("c1"))
        asked = evaluate(CUSTOMER_ACTIVITY, tail, time, own_row(asking.amount))
        assert found["c1", time] == pytest.approx(asked, rel=1e-9)
        grow(CUSTOMER_ACTIVITY, streamed, "transactions", asking)


def test_two_payments_at_one_moment_are_one_row_that_counts_both(tmp_path):
    both = [payment(1, START, 1, 1, 10.0), payment(2, START, 1, 2, 30.0)]
    write(tmp_path / "lake", [(START, "transactions", each) for each in both])
    assert answers(CUSTOMER_ACTIVITY, tmp_path / "lake") == {("c1", micros(START)): [2.0, 2.0, 2.0, 20.0, 20.0, 20.0]}


def test_a_chargeback_that_came_after_the_label_delay_is_not_seen(tmp_path):
    first = payment(1, START, 1, 1, 10.0)
    asking = payment(2, START + timedelta(days=10), 2, 1, 10.0)
    late = chargeback(first, timedelta(days=8))
    write(
        tmp_path / "lake",
        [
            (first.event_timestamp, "transactions", first),
            (late.created_timestamp, "chargebacks", late),
            (asking.event_timestamp, "transactions", asking),
        ],
    )
    row = dict(
        zip(
            TERMINAL_RISK.features,
            answers(TERMINAL_RISK, tmp_path / "lake")["m1", micros(asking.event_timestamp)],
            strict=True,
        )
    )
    assert row["terminal_transaction_count_7d"] == 1.0
    assert row["terminal_fraud_rate_7d"] == 0.0


@pytest.mark.parametrize(
    ("since", "counted"),
    [
        (timedelta(days=7) - MICRO, 0.0),
        (timedelta(days=7), 1.0),
        (timedelta(days=8) - MICRO, 1.0),
        (timedelta(days=8), 0.0),
    ],
)
def test_the_edges_of_a_shifted_window_are_exact(tmp_path, since, counted):
    payments = [payment(1, START, 1, 1, 1.0), payment(2, START + since, 2, 1, 1.0)]
    fraud = chargeback(payments[0], timedelta(days=7))
    write(
        tmp_path / "lake",
        [*((each.event_timestamp, "transactions", each) for each in payments), (END, "chargebacks", fraud)],
    )
    row = answers(TERMINAL_RISK, tmp_path / "lake")["m1", micros(START + since)]
    values = dict(zip(TERMINAL_RISK.features, row, strict=True))
    assert values["terminal_transaction_count_1d"] == counted
    assert values["terminal_fraud_rate_1d"] == counted


@pytest.mark.parametrize("view", WINDOWED, ids=lambda view: view.name)
def test_history_and_snapshot_look_back_over_the_whole_horizon(tmp_path, view):
    asked = START + timedelta(days=45)
    first = asked - timedelta(microseconds=view.horizon_micros)
    old = [first + MICRO, first + timedelta(hours=1)]
    known: list[Known] = []
    for number, moment in enumerate(old):
        known.append((moment, "transactions", payment(number, moment, 1, 1, 2.0)))
        known.append((moment, "watches", watch(number, moment, 1, 1, 0.5)))
    known.append((asked, "transactions", payment(9, asked, 1, 1, 2.0)))
    known.append((asked, "impressions", page(9, asked, 1, [1])))
    write(tmp_path / "lake", known)
    streamed: dict[str, bytes] = {}
    for _, topic, event in known:
        grow(view, streamed, topic, event)
    tails = {key: unpack_tail(view, state) for key, state in streamed.items()}
    ((key, row),) = [(key, row) for (key, _), row in answers(view, tmp_path / "lake", asked, asked + MICRO).items()]
    assert max(row) > 1.0
    assert row == pytest.approx(evaluate(view, tails[key], micros(asked)))
    ((_, _, state),) = states(view, tmp_path / "lake", asked)
    for earlier in (timedelta(0), timedelta(hours=12)):
        time = micros(asked - earlier)
        expected = evaluate(view, tails[key], time)
        assert evaluate(view, unpack_tail(view, state), time) == pytest.approx(expected)


def test_only_moments_of_the_range_are_answered(tmp_path):
    payments = [payment(n, START + timedelta(days=n), 1, 1, 1.0) for n in range(5)]
    write(tmp_path / "lake", [(each.event_timestamp, "transactions", each) for each in payments])
    found = answers(CUSTOMER_ACTIVITY, tmp_path / "lake", START + timedelta(days=1), START + timedelta(days=3))
    assert sorted(time for _, time in found) == [micros(START + timedelta(days=n)) for n in (1, 2)]


@pytest.mark.parametrize("view", WINDOWED)
def test_an_empty_lake_has_no_rows_but_the_right_columns(tmp_path, view):
    table = feature_rows(view, tmp_path / "lake", START, END)
    assert table.num_rows == 0
    assert table.column_names == [view.entity, "event_timestamp", "created_timestamp", *view.features]
    assert str(table.schema.field("event_timestamp").type) == "timestamp[us, tz=UTC]"


def test_nothing_is_left_beside_the_lake(tmp_path):
    feature_rows(CUSTOMER_ACTIVITY, tmp_path / "lake", START, END)
    assert list(tmp_path.iterdir()) == []
