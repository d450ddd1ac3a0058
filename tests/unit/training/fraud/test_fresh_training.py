"""Training after an alarm: labels as reported so far, cards that are held out, a window that ends now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from small_lake import START, chargeback, payment, put

from reference_system.assignment import is_in_share
from reference_system.errors import TrainingError
from reference_system.event_time import micros
from reference_system.flows.training.trained_model import (
    evaluators_of,
    selection_spec_of,
    split_of,
    trigger_named,
)
from reference_system.training.fraud.case import (
    HELD_OUT_SALT,
    HELD_OUT_SHARE,
    fraud_split,
    fresh_fraud_split,
    prepare_fraud,
)
from reference_system.training.fraud.duckdb_events import labelled_payments
from reference_system.training.temporal_split import Span
from reference_system.use_cases.fraud.features import INPUTS

AS_OF = START + timedelta(days=40)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SPLIT = fresh_fraud_split(AS_OF, AS_OF - 2 * HOUR)
CARDS = [f"c{number}" for number in range(60)]
HELD_OUT = {card for card in CARDS if is_in_share(card, HELD_OUT_SALT, HELD_OUT_SHARE)}


def number_join(entities, views):
    """A join whose every feature is the number of the card: what was learned from can be read off the rows."""
    numbers = entities["customer_id"].to_pandas().str[1:].astype(float)
    return pd.DataFrame({name: numbers for view in views for name in view.features})


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Forty days of sixty cards; three payments of seven are frauds and are reported three days later."""
    lake = tmp_path_factory.mktemp("fresh")
    paid, reported = [], []
    for number in range(40 * 24 * 2):
        hours = number / 2
        card = CARDS[number % len(CARDS)]
        paid.append(payment(number, hours, customer=card))
        # Seven has no common divisor with sixty: every card has frauds.
        if number % 7 < 3:
            reported.append(chargeback(number, hours, hours + 3 * 24, customer=card))
    put(lake, "transactions", *paid)
    put(lake, "chargebacks", *reported)
    return lake


def cards_of(rows):
    column = INPUTS.index("customer_transaction_count_1d")
    return {f"c{number:.0f}" for number in np.unique(rows.inputs[:, column])}


def test_a_fresh_split_ends_now_and_keeps_the_ordinary_window_as_a_check():
    assert SPLIT.is_fresh
    assert SPLIT.test.end == AS_OF - 2 * HOUR
    assert SPLIT.train.end == SPLIT.test.end - 2 * DAY
    assert SPLIT.mature == fraud_split(AS_OF).test
    assert SPLIT.mature.end == SPLIT.test.start == AS_OF - 7 * DAY


def test_only_alarms_train_on_what_is_new():
    for trigger in ("asked", "schedule"):
        assert not split_of("fraud", AS_OF, trigger=trigger).is_fresh
        assert selection_spec_of("fraud", trigger).validation is not None
    for trigger in ("drift", "performance"):
        assert split_of("fraud", AS_OF, trigger=trigger).is_fresh
        assert selection_spec_of("fraud", trigger).validation is None
    fresh, ordinary = (split_of("recommendation", AS_OF, trigger=trigger) for trigger in ("drift", "asked"))
    assert fresh.train.end > ordinary.train.end
    assert fresh.test.end == AS_OF - DAY, "a ranker's labels are mature after a day"


def test_a_trigger_that_does_not_exist_is_refused_with_those_that_do():
    with pytest.raises(TrainingError, match="asked, schedule, drift, performance"):
        trigger_named("boredom")


def test_held_out_cards_never_train_and_alone_judge_the_days_before_the_last_two(lake):
    case = prepare_fraud(lake, SPLIT, number_join)
    assert HELD_OUT
    assert not cards_of(case.train) & HELD_OUT
    assert cards_of(case.mature.rows) <= HELD_OUT
    last_days = case.evaluator.rows.times >= micros(SPLIT.train.end)
    older = case.evaluator.rows.inputs[~last_days][:, INPUTS.index("customer_transaction_count_1d")]
    assert {f"c{number:.0f}" for number in older} <= HELD_OUT
    assert case.train.times.max() < micros(SPLIT.train.end) <= case.evaluator.rows.times[last_days].min()
    assert list(evaluators_of(case)) == ["recent", "mature"]
    assert case.days == pytest.approx(2 + HELD_OUT_SHARE * (5 - 2 / 24))


def test_frauds_that_nobody_reported_yet_count_as_genuine(lake):
    span = Span(start=AS_OF - 6 * DAY, end=AS_OF)
    later, now = (
        labelled_payments(lake, span, known=moment)["label"].to_numpy() for moment in (AS_OF + 9 * DAY, AS_OF)
    )
    assert 0 < now.sum() < later.sum()
    assert later[now > 0].all()


def test_too_few_reports_say_how_many_are_needed(lake):
    with pytest.raises(TrainingError, match=r"only \d+ frauds were reported .*\(10 are needed\)") as raised:
        prepare_fraud(lake, replace(SPLIT, as_of=AS_OF - 3 * DAY), number_join)
    assert "--trigger" in (raised.value.next_command or "")
