"""Disputes: one fraud counts once, however many chargebacks name it, and no longer when they are all taken back."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_events import NOW, example

from reference_system.event_time import micros
from reference_system.events import Event
from reference_system.features.history.fraud_inputs import fraud_inputs
from reference_system.features.history.requested_sums import sums_at, sums_known
from reference_system.features.history.states import states
from reference_system.features.history.values import feature_rows
from reference_system.features.history.window_sums import features_of
from reference_system.features.stream.state_rows import reader, topics_of
from reference_system.features.stream.state_updates import fold
from reference_system.lake import delta_lake
from reference_system.reported_rows import Once, memory_in, memory_of, reports_in, rows_of
from reference_system.use_cases import topic_named
from reference_system.use_cases.fraud.features import TERMINAL_RISK
from reference_system.use_cases.fraud.labels import LABEL_DELAY
from reference_system.windows import Rows, evaluate, evaluate_state, unpack_tail

DAY = timedelta(days=1)
MICRO = timedelta(microseconds=1)
TERMINAL = "t000001"
REACH = timedelta(microseconds=TERMINAL_RISK.horizon_micros) + DAY
FORGOTTEN = NOW + REACH


@dataclass(frozen=True)
class Told:
    """An event and its topic."""

    topic: str
    event: Event

    @property
    def known(self):
        return getattr(self.event, "created_timestamp", self.event.event_timestamp)


def paid(name: str, moment=NOW) -> Told:
    return Told("transactions", example("transactions", transaction_id=name, event_timestamp=moment))


def disputed(payment: Told, known, report: str = "b1", topic: str = "chargebacks") -> Told:
    name, moment = payment.event.transaction_id, payment.event.event_timestamp
    fields = {"transaction_id": name, "chargeback_id": f"{report}-{name}", "event_timestamp": moment}
    return Told(topic, example(topic, **fields, created_timestamp=known))


def taken_back(payment: Told, known, report: str = "b1") -> Told:
    return disputed(payment, known, report, topic="chargeback-reversals")


# Three ways to the features


def write(lake: Path, told: Sequence[Told]) -> dict[tuple[str, int], int]:
    """Put the events into the lake; returns the offsets that it reaches."""
    by_topic = defaultdict(list)
    for each in told:
        by_topic[each.topic].append(each.event)
    for topic, events in by_topic.items():
        table = delta_lake.to_table(topic_named(topic), events, [0] * len(events), range(len(events)))
        delta_lake.append(lake, topic_named(topic), table, versions={0: len(events) - 1})
    return {(topic, 0): len(events) - 1 for topic, events in by_topic.items()}


def folded(told: Sequence[Told], cuts: Sequence[int] = ()) -> bytes:
    """The terminal's state, by polls that end at the cuts."""
    state = None
    for start, end in pairwise([0, *sorted(cuts), len(told)]):
        additions = []
        for each in told[start:end]:
            if each.topic in topics_of(TERMINAL_RISK):
                read = reader(TERMINAL_RISK, each.topic)
                additions += [row for _, _, row in read([each.event], [micros(each.event.event_timestamp)])]
        if additions:
            state = fold(TERMINAL_RISK, state, 0, additions)
    return state or b""


def defined(told: Sequence[Told], now) -> list[float]:
    """The features by their definition, from nothing but the events."""
    known = [each for each in told if each.known <= now]
    reversed_then = {each.event.chargeback_id for each in known if each.topic == "chargeback-reversals"}
    frauds = {
        (each.event.transaction_id, each.event.event_timestamp)
        for each in known
        if each.topic == "chargebacks"
        and each.known - each.event.event_timestamp <= LABEL_DELAY
        and each.event.chargeback_id not in reversed_then
    }
    counts, rates = [], []
    for days in (1, 7, 30):
        end = now - LABEL_DELAY
        payments = [
            each
            for each in told
            if each.topic == "transactions" and end - days * DAY < each.event.event_timestamp <= end
        ]
        inside = sum(end - days * DAY < moment <= end for _, moment in frauds)
        counts.append(len(payments))
        rates.append(inside / len(payments) if payments else 0.0)
    return [*counts, *rates]


def rate(values: Sequence[float], days: int) -> float:
    return dict(zip(TERMINAL_RISK.features, values, strict=True))[f"terminal_fraud_rate_{days}d"]


def in_history(lake: Path, *moments) -> list[list[float]]:
    asked = sums_at(TERMINAL_RISK, lake, [TERMINAL] * len(moments), np.array([*map(micros, moments)]))
    return features_of(TERMINAL_RISK, asked).tolist()


def online(told: Sequence[Told], now) -> list[float]:
    state = folded([each for each in told if each.known <= now])
    return evaluate_state(TERMINAL_RISK, state, micros(now))


# One fraud


@pytest.mark.parametrize("reports", [1, 2, 3])
def test_a_payment_is_one_fraud_however_many_chargebacks_name_it(tmp_path, reports):
    payments = [paid("x1"), paid("x2", NOW + MICRO)]
    told = [*payments, *(disputed(payments[0], NOW + n * DAY, f"b{n}") for n in range(reports))]
    write(tmp_path / "lake", told)
    now = NOW + 8 * DAY - MICRO
    assert rate(in_history(tmp_path / "lake", now)[0], 7) == 0.5
    assert rate(online(told, now), 7) == 0.5


def test_every_reader_of_history_counts_it_once(tmp_path):
    asking = paid("x9", NOW + 8 * DAY)
    told = [paid("x1"), asking, disputed(paid("x1"), NOW + DAY), disputed(paid("x1"), NOW + DAY, "b2")]
    write(tmp_path / "lake", told)
    table = feature_rows(TERMINAL_RISK, tmp_path / "lake", NOW, NOW + 9 * DAY)
    assert table["terminal_fraud_rate_7d"].to_pylist() == [0.0, 1.0]
    inputs = fraud_inputs(tmp_path / "lake", tmp_path / "no files")
    assert inputs["terminal_fraud_rate_30d"].to_pylist() == [0.0, 1.0]


def test_two_disputed_payments_of_one_moment_are_two_frauds(tmp_path):
    payments = [paid("x1"), paid("x2"), paid("x3")]
    told = [*payments, disputed(payments[0], NOW + DAY), disputed(payments[1], NOW + DAY)]
    write(tmp_path / "lake", told)
    assert rate(in_history(tmp_path / "lake", NOW + 7 * DAY)[0], 1) == pytest.approx(2 / 3)
    assert rate(online(told, NOW + 7 * DAY), 1) == pytest.approx(2 / 3)


# Taken back


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (timedelta(days=10) - MICRO, 1.0),
        (timedelta(days=10), 0.0),
        (timedelta(days=14) - MICRO, 0.0),
    ],
)
def test_a_reversal_takes_the_fraud_from_the_windows_from_its_moment_on(tmp_path, after, expected):
    told = [paid("x1"), disputed(paid("x1"), NOW + 3 * DAY), taken_back(paid("x1"), NOW + 10 * DAY)]
    write(tmp_path / "lake", told)
    assert rate(in_history(tmp_path / "lake", NOW + after)[0], 7) == expected
    assert rate(online(told, NOW + after), 7) == expected


def test_what_was_taken_back_before_a_window_reached_it_is_in_none(tmp_path):
    told = [paid("x1"), disputed(paid("x1"), NOW + DAY), taken_back(paid("x1"), NOW + 2 * DAY)]
    write(tmp_path / "lake", told)
    for days in (7, 8, 20):
        assert in_history(tmp_path / "lake", NOW + days * DAY)[0][3:] == [0.0, 0.0, 0.0]
        assert online(told, NOW + days * DAY)[3:] == [0.0, 0.0, 0.0]


def test_a_fraud_stands_until_the_last_of_its_chargebacks_is_taken_back(tmp_path):
    told = [
        paid("x1"),
        disputed(paid("x1"), NOW + DAY),
        disputed(paid("x1"), NOW + 2 * DAY, "b2"),
        taken_back(paid("x1"), NOW + 9 * DAY),
        taken_back(paid("x1"), NOW + 12 * DAY, "b2"),
    ]
    write(tmp_path / "lake", told)
    for now, expected in ((NOW + 11 * DAY, 1.0), (NOW + 12 * DAY, 0.0)):
        assert rate(in_history(tmp_path / "lake", now)[0], 30) == rate(online(told, now), 30) == expected


def test_a_chargeback_that_came_too_late_is_no_reason_to_keep_a_fraud(tmp_path):
    told = [
        paid("x1"),
        disputed(paid("x1"), NOW + DAY),
        disputed(paid("x1"), NOW + 8 * DAY, "late"),
        taken_back(paid("x1"), NOW + 9 * DAY),
        taken_back(paid("x1"), NOW + 20 * DAY, "late"),
    ]
    write(tmp_path / "lake", told)
    for now, expected in ((NOW + 9 * DAY - MICRO, 1.0), (NOW + 9 * DAY, 0.0), (NOW + 21 * DAY, 0.0)):
        assert rate(in_history(tmp_path / "lake", now)[0], 30) == rate(online(told, now), 30) == expected


def test_what_takes_back_nothing_changes_no_value(tmp_path):
    told = [paid("x1"), disputed(paid("x1"), NOW + DAY), taken_back(paid("x1"), NOW + 2 * DAY, "another")]
    write(tmp_path / "lake", told)
    assert rate(in_history(tmp_path / "lake", NOW + 7 * DAY)[0], 1) == rate(online(told, NOW + 7 * DAY), 1) == 1.0


def test_a_state_of_any_age_lies_between_the_sums_that_bound_it(tmp_path):
    told = [
        paid("x1"),
        disputed(paid("x1"), NOW + DAY),
        taken_back(paid("x1"), NOW + 2 * DAY),
        disputed(paid("x1"), NOW + 3 * DAY, "b2"),
    ]
    write(tmp_path / "lake", told)

    def rate_known(known, known_taken_back):
        asked = np.array([micros(NOW + 8 * DAY)])
        moments = (np.array([micros(NOW + days * DAY)]) for days in (known, known_taken_back))
        return rate(
            features_of(TERMINAL_RISK, sums_known(TERMINAL_RISK, tmp_path / "lake", [TERMINAL], asked, *moments))[0], 7
        )

    assert [rate_known(days, days) for days in (0, 1, 2, 3)] == [0.0, 1.0, 0.0, 1.0]
    assert rate_known(1, 2) == 0.0
    assert rate_known(2, 1) == 1.0


# In any order

payments_of_a_world = st.lists(st.sampled_from([0, 0, 1, 8, 30, 37, 38, 45]), min_size=1, max_size=4)
moments_of_reports = st.sampled_from([timedelta(0), DAY, LABEL_DELAY, LABEL_DELAY + MICRO, 9 * DAY])
moments_of_reversals = st.builds(
    lambda days, micro: days * DAY + micro * MICRO,
    st.sampled_from([1, 7, 8, 10, 14, 37, 44, 60]),
    st.sampled_from([0, -1, 1]),
)


@st.composite
def worlds(draw) -> list[Told]:
    told: list[Told] = []
    for number, days in enumerate(draw(payments_of_a_world)):
        payment = paid(f"x{number}", NOW + days * DAY)
        # A chargeback may name a payment that nobody has seen.
        told += [payment] * draw(st.sampled_from([1, 1, 1, 0]))
        for report in draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True)):
            told.append(disputed(payment, payment.event.event_timestamp + draw(moments_of_reports), report))
        for report in draw(st.lists(st.sampled_from("abc"), max_size=3)):
            told.append(taken_back(payment, payment.event.event_timestamp + draw(moments_of_reversals), report))
    return told


@settings(max_examples=150, deadline=None)
@given(told=worlds(), data=st.data())
def test_the_state_does_not_depend_on_the_order_in_which_topics_are_read(told, data):
    expected = folded(told)
    cuts = data.draw(st.lists(st.integers(0, len(told)), max_size=5))
    assert folded(data.draw(st.permutations(told)), cuts) == expected
    again = data.draw(st.lists(st.sampled_from(told), max_size=3)) if told else []
    repeated = [each for each in again if each.topic != "transactions"]
    assert folded([*told, *repeated], cuts) == expected, "a report that comes again says nothing new"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(told=worlds(), data=st.data())
def test_stream_lake_and_definition_say_the_same(told, data):
    with tempfile.TemporaryDirectory() as folder:
        lake = Path(folder) / "lake"
        offsets = write(lake, data.draw(st.permutations(told)))
        built = {key: (time, state) for key, time, state in states(TERMINAL_RISK, lake, NOW, offsets=offsets)}
        streamed = folded(told)
        assert built.get(TERMINAL, (0, b""))[1] == streamed, "the lake gives the same bytes"
        if streamed:
            counted = [
                each
                for each in told
                if each.topic != "chargebacks" or each.known - each.event.event_timestamp <= LABEL_DELAY
            ]
            assert built[TERMINAL][0] == max(micros(each.known) for each in counted)
        moments = sorted({each.known + after for each in told for after in (timedelta(0), LABEL_DELAY)}) or [NOW]
        for now, found in zip(moments, in_history(lake, *moments), strict=True):
            expected = defined(told, now)
            assert found == pytest.approx(expected)
            assert online(told, now) == pytest.approx(expected)


# What a state remembers


def test_reports_are_forgotten_with_the_rows_that_they_are_about():
    told = [paid("x1"), disputed(paid("x1"), NOW + DAY), taken_back(paid("x1"), NOW + 2 * DAY)]
    for later in (paid("x2", FORGOTTEN), disputed(paid("x3", FORGOTTEN), FORGOTTEN)):
        before = folded([*told, paid("x2", FORGOTTEN - MICRO)])
        assert len(reports_in(memory_in(before))) == 2
        assert folded([*told, later]) == folded([later])
    assert memory_in(folded([*told, paid("x2", FORGOTTEN)])) == b""


def test_a_dispute_of_a_payment_beyond_reach_changes_nothing():
    state = folded([paid("x2", FORGOTTEN)])
    assert folded([paid("x2", FORGOTTEN), disputed(paid("x1"), NOW + DAY)]) == state
    assert folded([paid("x2", FORGOTTEN), taken_back(paid("x1"), FORGOTTEN)]) == state


def test_a_state_without_reports_is_its_rows_and_opens_as_it_always_did():
    state = folded([paid("x1"), paid("x2", NOW + DAY)])
    assert (memory_in(state), rows_of(state)) == (b"", state)
    assert len(state) == 2 * TERMINAL_RISK.plan.row_bytes
    assert unpack_tail(TERMINAL_RISK, state).pack() == state


def test_what_a_state_remembers_is_in_no_value():
    told = [paid("x1"), disputed(paid("x1"), NOW + DAY)]
    state = folded(told)
    memory, rows = memory_in(state), rows_of(state)
    assert reports_in(memory) == {(micros(NOW), "x1", "b1-x1", False)}
    now = micros(NOW + 8 * DAY)
    assert evaluate_state(TERMINAL_RISK, state, now) == evaluate_state(TERMINAL_RISK, rows, now)
    assert evaluate(TERMINAL_RISK, unpack_tail(TERMINAL_RISK, state), now).tolist() == pytest.approx(
        evaluate_state(TERMINAL_RISK, rows, now)
    )


@pytest.mark.parametrize("count", [0, 1, 100])
def test_the_memory_is_what_was_put_into_it(count):
    reports = {(micros(NOW) + n % 7, f"x{n}", f"b{n}", n % 2 == 0) for n in range(count)}
    state = memory_of(reports) + b"\x01" * 48
    assert (reports_in(memory_in(state)), rows_of(state)) == (reports, b"\x01" * 48)


@pytest.mark.parametrize(
    "changes",
    [{"explode": True}, {"values": (("transactions", 0.0), ("frauds", "amount"))}],
    ids=["exploded", "not alike"],
)
def test_rows_that_could_not_count_once_are_refused(changes):
    rows = tuple(replace(each, **changes) if each.once else each for each in TERMINAL_RISK.rows)
    with pytest.raises(ValueError, match="terminal_risk: only one kind of rows counts once"):
        replace(TERMINAL_RISK, rows=rows)


def test_two_kinds_of_rows_that_count_once_and_tiles_are_refused():
    other = Rows(
        topic="ratings", entity="viewer_id", values=(("frauds", 1.0),), once=Once(per="video_id", taken_back_by="none")
    )
    with pytest.raises(ValueError, match="only one kind"):
        replace(TERMINAL_RISK, rows=(*TERMINAL_RISK.rows, other))
    with pytest.raises(ValueError, match="only one kind"):
        replace(TERMINAL_RISK, tile=DAY)
