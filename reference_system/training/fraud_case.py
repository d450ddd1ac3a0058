"""The fraud case: from the lake to a judged model with thresholds.

In: the lake, a moment, the point-in-time join. Out: what selection and the bundle need.
Invariant: everything that depends on labels is mature as of the moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from reference_system.training.fraud_training_set import fraud_rows
from reference_system.training.judges import PaymentJudge
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.point_in_time import Join
from reference_system.training.selection import Contest, Selection
from reference_system.training.temporal_split import TemporalSplit, temporal_split
from reference_system.use_cases.fraud import model
from reference_system.use_cases.fraud.labels import LABEL_DELAY
from reference_system.use_cases.fraud.policy import Thresholds, set_thresholds
from reference_system.windows import Floats

CONTEST = Contest(
    candidates=model.CANDIDATES,
    baselines=model.BASELINES,
    primary_metric=model.PRIMARY_METRIC,
    inputs=model.SIGNATURE,
)
# The reasons of a decision call unusual what only one in a hundred genuine payments exceeds.
_USUAL_QUANTILE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudCase:
    """The rows to learn from and who judges."""

    split: TemporalSplit
    train: LabelledRows
    judge: PaymentJudge


def fraud_split(as_of: datetime) -> TemporalSplit:
    """Where fraud models learn and are judged as of a moment."""
    return temporal_split(as_of, train_days=model.TRAIN_DAYS, test_days=model.TEST_DAYS, label_delay=LABEL_DELAY)


def prepare_fraud(lake: Path, as_of: datetime, join: Join) -> FraudCase:
    """Read both windows.

    Raises:
        TrainingError: if one of them cannot be used.
    """
    split = fraud_split(as_of)
    # The test window first: it is the shorter one, and the younger, so it is the one that may lack features.
    test = fraud_rows(lake, split.test, join, what="test")
    train = fraud_rows(lake, split.train, join, what="training")
    return FraudCase(split=split, train=train, judge=PaymentJudge(rows=test))


def thresholds(case: FraudCase, selection: Selection) -> Thresholds:
    """The best model's thresholds, from the budgets on the test window."""
    return set_thresholds(selection.best.judgement.scores, case.judge.rows.labels, days=float(model.TEST_DAYS))


def usual_inputs(case: FraudCase) -> Floats:
    """The 99th percentile of each input among genuine payments of the training window, shape (15,)."""
    genuine = case.train.inputs[case.train.labels == 0]
    usual: Floats = np.quantile(genuine.astype(np.float64), _USUAL_QUANTILE, axis=0)
    return usual
