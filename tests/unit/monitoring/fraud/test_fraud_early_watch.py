"""The models on the same payments: who scores what."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from reference_system.event_time import micros
from reference_system.monitoring.fraud.early_watch import watch_early
from reference_system.monitoring.monitoring_run import MonitoringRun, WatchedChampion
from reference_system.use_cases.fraud import model

START = datetime(2025, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=12)
SCENE = MonitoringRun(lake=Path(), feature_tables=Path(), as_of=NOW, history_start=START, live_start=START)
DAYS, A_DAY = 10, 400


def answered():
    """Ten days of payments; version 1 answered the first half of each day, version 2 the second."""
    rng = np.random.default_rng(0)
    count = DAYS * A_DAY
    times = micros(START) + np.arange(count) * (86_400_000_000 // A_DAY)
    inputs = rng.normal(size=(count, len(model.SIGNATURE))).astype(np.float32)
    fraud = inputs[:, 0] > 1.5
    return pa.table(
        {
            "time": times,
            "reported": pa.array(times + 3_600_000_000, mask=~fraud),
            "withdrawn": pa.nulls(count, pa.int64()),
            "model_version": np.where(np.arange(count) % A_DAY < A_DAY // 2, "1", "2"),
            "score": inputs[:, 0].astype(np.float32),
            "features": pa.array(list(inputs), pa.list_(pa.float32())),
        }
    )


def test_a_model_scores_the_payments_that_another_one_answered_and_no_other():
    answers = answered()
    asked = {}

    def champion(version):
        def score(inputs):
            asked[version] = len(inputs)
            return inputs[:, 0]

        return WatchedChampion(version=version, learned_until=START, metrics={}, score=score, review=0.5)

    early = watch_early(
        SCENE, champion("2"), [champion("1")], answers.select(["time", "reported", "withdrawn"]), answers
    )

    assert asked == {"1": DAYS * A_DAY // 2, "2": DAYS * A_DAY // 2}
    # Both are the same model, so they are worth the same on the same days, whoever answered.
    judged = [day.average_precision for day in early.days if day.average_precision]
    assert len(judged) >= DAYS - 3
    assert all(worth["1"] == worth["2"] for worth in judged)
