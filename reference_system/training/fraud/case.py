"""The fraud case: from the lake to the rows of a training and its evaluation, and to thresholds.

In: the lake, a moment, the point-in-time join. Out: what selection, gate and bundle need.
Invariant: an ordinary case has mature labels everywhere. A fresh one takes them as reported so far, which makes some
frauds look genuine, in training and in its youngest window alike; no row of its evaluation was learned from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np

from reference_system.arrays import Floats
from reference_system.assignment import is_in_share
from reference_system.event_time import MICROS_PER_DAY, micros
from reference_system.training.fraud.evaluation import PaymentEvaluator
from reference_system.training.fraud.training_set import fraud_rows, require_positives
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.point_in_time import Join
from reference_system.training.prequential import Protocol
from reference_system.training.selection import Selection, SelectionSpec
from reference_system.training.temporal_split import Span, TemporalSplit, fresh_split, temporal_split
from reference_system.use_cases.fraud import model
from reference_system.use_cases.fraud.labels import LABEL_DELAY, LABEL_DELAY_DAYS
from reference_system.use_cases.fraud.policy import Thresholds, set_thresholds

FRAUD_SELECTION = SelectionSpec(
    candidates=model.CANDIDATES,
    baselines=model.BASELINES,
    primary_metric=model.PRIMARY_METRIC,
    inputs=model.SIGNATURE,
    validation=Protocol(
        train_days=model.FOLD_TRAIN_DAYS,
        delay_days=LABEL_DELAY_DAYS,
        test_days=model.FOLD_TEST_DAYS,
        folds=model.FOLDS,
    ),
    most_negatives=model.MOST_GENUINE,
)
# The reasons of a decision call unusual what only one in a hundred genuine payments exceeds.
_USUAL_QUANTILE = 0.99
# A fresh training: every card judges it in the last two days, one in five before, and that one never trains it.
FRESH_TEST_DAYS = 2
HELD_OUT_SHARE, HELD_OUT_SALT = 0.2, "fraud held-out cards"
# Fewer reported frauds than this cannot tell two models apart.
MIN_REPORTED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudCase:
    """The rows to learn from and the evaluator; for a fresh split a second one with mature labels as well.

    `days` says how many days of everybody's payments the rows of `evaluator` are worth.
    """

    split: TemporalSplit
    train: LabelledRows
    evaluator: PaymentEvaluator
    mature: PaymentEvaluator | None
    days: float


def fraud_split(as_of: datetime) -> TemporalSplit:
    """Where fraud models learn and are judged as of a moment."""
    return temporal_split(as_of, train_days=model.TRAIN_DAYS, test_days=model.TEST_DAYS, label_delay=LABEL_DELAY)


def fresh_fraud_split(as_of: datetime, until: datetime) -> TemporalSplit:
    """Where fraud models learn and are judged after an alarm; features are known up to `until`."""
    split = fresh_split(
        as_of, until=until, train_days=model.TRAIN_DAYS, test_days=FRESH_TEST_DAYS, maturity=timedelta(0)
    )
    mature = fraud_split(as_of).test
    return replace(split, test=Span(start=mature.end, end=split.test.end), mature=mature, held_out=HELD_OUT_SHARE)


def prepare_fraud(lake: Path, split: TemporalSplit, join: Join) -> FraudCase:
    """Read the windows.

    Raises:
        TrainingError: if one of them cannot be used.
    """
    if split.is_fresh:
        return _prepare_fresh(lake, split, join)
    # The test window first: it is the shorter one, and the younger, so it is the one that may lack features.
    test = fraud_rows(lake, split.test, join, what="test")
    train = fraud_rows(lake, split.train, join, what="training")
    return FraudCase(
        split=split, train=train, evaluator=PaymentEvaluator(rows=test), mature=None, days=float(model.TEST_DAYS)
    )


def _prepare_fresh(lake: Path, split: TemporalSplit, join: Join) -> FraudCase:
    last_days = micros(split.train.end)

    @cache
    def held_out(card: str) -> bool:
        return is_in_share(card, HELD_OUT_SALT, split.held_out)

    def recently(card: str, time: int) -> bool:
        return time >= last_days or held_out(card)

    recent = fraud_rows(lake, split.test, join, what="test", known=split.as_of, wanted=recently, both_classes=False)
    require_positives(recent, MIN_REPORTED, split.test)
    mature = None
    if split.mature is not None:
        rows = fraud_rows(lake, split.mature, join, what="mature", wanted=lambda card, _: held_out(card))
        mature = PaymentEvaluator(rows=rows)
    train = fraud_rows(
        lake, split.train, join, what="training", known=split.as_of, wanted=lambda card, _: not held_out(card)
    )
    before = (last_days - micros(split.test.start)) / MICROS_PER_DAY
    whole = (micros(split.test.end) - last_days) / MICROS_PER_DAY
    return FraudCase(
        split=split,
        train=train,
        evaluator=PaymentEvaluator(rows=recent),
        mature=mature,
        days=whole + split.held_out * before,
    )


def thresholds(case: FraudCase, selection: Selection) -> Thresholds:
    """The best model's thresholds, from the budgets on the test window."""
    rows = case.evaluator.rows
    amounts = rows.inputs[:, model.SIGNATURE.index("amount")].astype(np.float64)
    return set_thresholds(selection.best.evaluation.scores, rows.labels, amounts, days=case.days)


def usual_inputs(case: FraudCase) -> Floats:
    """The 99th percentile of each input among genuine payments of the training window, shape (15,)."""
    genuine = case.train.inputs[case.train.labels == 0]
    usual: Floats = np.quantile(genuine.astype(np.float64), _USUAL_QUANTILE, axis=0)
    return usual
