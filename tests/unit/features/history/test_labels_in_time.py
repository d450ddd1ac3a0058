"""A label counts from the moment it could be known, in history, stream and training alike."""

from __future__ import annotations

import pytest
from small_lake import at, chargeback, payment, put
from stream_harness import grow

from reference_system.event_time import micros
from reference_system.features.history.states import states
from reference_system.features.history.values import feature_rows
from reference_system.training.fraud.duckdb_events import labelled_payments
from reference_system.training.temporal_split import Span
from reference_system.use_cases import topic_named
from reference_system.use_cases.fraud.features import TERMINAL_RISK
from reference_system.windows import evaluate_state

DAY = 24
RATE = TERMINAL_RISK.features.index("terminal_fraud_rate_7d")
# A payment at hour 0, disputed so many hours later; others at the terminal ask about it before and after.
ASKING = (2 * DAY, 7 * DAY - 1, 7 * DAY, 8 * DAY, 11 * DAY)
IN_TIME = (DAY, 6 * DAY, 7 * DAY)
TOO_LATE = (7 * DAY + 1, 10 * DAY)


def write(lake, known):
    paid = [payment(0, 0), *(payment(1 + n, hours, customer="c2") for n, hours in enumerate(ASKING))]
    label = chargeback(0, 0, known)
    put(lake, "transactions", *paid)
    put(lake, "chargebacks", label)
    return paid, label


def state_at(paid, label, moment):
    """What the stream holds when everything that was known by the moment has come."""
    states = {}
    for topic, rows, field in (
        ("transactions", paid, "event_timestamp"),
        ("chargebacks", [label], "created_timestamp"),
    ):
        record = topic_named(topic).record
        for row in rows:
            if row[field] <= moment:
                grow(TERMINAL_RISK, states, topic, record(schema_version=1, **row))
    return states["t1"]


@pytest.mark.parametrize("known", [*IN_TIME, *TOO_LATE])
def test_history_and_stream_see_a_label_from_its_creation_on_and_never_one_that_came_too_late(tmp_path, known):
    paid, label = write(tmp_path / "lake", known)
    table = feature_rows(TERMINAL_RISK, tmp_path / "lake", at(0), at(12 * DAY))
    history = dict(zip(table["event_timestamp"].to_pylist(), table["terminal_fraud_rate_7d"].to_pylist(), strict=True))
    for hours in ASKING:
        moment = at(hours)
        # The window begins to hold the payment seven days later; by then a label in time is known, a late one never.
        expected = 1.0 if hours >= 7 * DAY and known <= 7 * DAY else 0.0
        if hours == 11 * DAY:
            expected /= 2  # the payment of day 2 is in the window, too
        snapshot = {key: state for key, _, state in states(TERMINAL_RISK, tmp_path / "lake", moment)}
        assert history[moment] == expected
        assert evaluate_state(TERMINAL_RISK, state_at(paid, label, moment), micros(moment))[RATE] == expected
        assert evaluate_state(TERMINAL_RISK, snapshot["t1"], micros(moment))[RATE] == expected


def test_a_correction_changes_nothing_at_earlier_moments(tmp_path):
    write(tmp_path / "before", 7 * DAY)
    write(tmp_path / "after", 7 * DAY)
    # The payment of day 2 turns out to be a fraud on day 9: rows of before that day stay as they were.
    put(tmp_path / "after", "chargebacks", chargeback(1, 2 * DAY, 9 * DAY, customer="c2"))
    found = [
        feature_rows(TERMINAL_RISK, tmp_path / lake, at(0), at(12 * DAY))["terminal_fraud_rate_7d"].to_pylist()
        for lake in ("before", "after")
    ]
    assert found[0][:-1] == found[1][:-1]
    assert (found[0][-1], found[1][-1]) == (0.5, 1.0)


@pytest.mark.parametrize(("known", "labels"), [(7 * DAY, 1.0), (8 * DAY, 1.0), (8 * DAY + 1, 0.0)])
def test_training_uses_what_was_known_when_the_last_label_of_its_window_was_mature(tmp_path, known, labels):
    write(tmp_path / "lake", known)
    found = labelled_payments(tmp_path / "lake", Span(start=at(0), end=at(DAY)))
    assert found["label"].to_pylist() == [labels]
