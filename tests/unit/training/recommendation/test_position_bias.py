"""Position bias: what the old policy put on top was watched more, and that must not become the new order."""

from __future__ import annotations

import numpy as np
import pytest

from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.sklearn_estimators import fit_estimator
from reference_system.use_cases.recommendation.features import INPUTS, SERVING_POSITION
from reference_system.use_cases.recommendation.model import CANDIDATES

VIDEOS, SHOWN = 10, 8_000
POSITION, VIDEO = INPUTS.index("position"), INPUTS.index("video_watch_rate_7d")
# The better a video, the further down the old policy showed it; viewers look at the top.
QUALITY = np.linspace(0.2, 0.9, VIDEOS)
EXAMINED = np.arange(1, 11) ** -1.0


def order_of(model, position):
    rows = np.zeros((VIDEOS, len(INPUTS)), np.float32)
    rows[:, VIDEO], rows[:, POSITION] = QUALITY, position
    return np.argsort(model.score(rows), kind="stable").tolist()


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_planted_position_bias_does_not_leak_into_the_order(name):
    rng = np.random.default_rng(6)
    videos = rng.integers(VIDEOS, size=SHOWN)
    positions = np.clip(np.round(videos + 1 + rng.normal(0, 2, SHOWN)), 1, 10)
    watched = rng.random(SHOWN) < QUALITY[videos] * EXAMINED[positions.astype(int) - 1]
    # As shown, the worst videos look best.
    rates = np.array([watched[videos == video].mean() for video in range(VIDEOS)])
    assert rates[0] > rates[-1]
    inputs = np.zeros((SHOWN, len(INPUTS)), np.float32)
    inputs[:, VIDEO], inputs[:, POSITION] = QUALITY[videos], positions
    rows = LabelledRows(
        inputs=inputs, labels=watched.astype(float), groups=np.zeros(SHOWN, np.int64), times=np.arange(SHOWN)
    )
    order = order_of(fit_estimator(name, rows, seed=1), SERVING_POSITION)
    assert np.corrcoef(order, range(VIDEOS))[0, 1] > 0.9
    blind = LabelledRows(
        inputs=np.where(np.arange(len(INPUTS)) == POSITION, np.float32(0.0), inputs),
        labels=rows.labels,
        groups=rows.groups,
        times=rows.times,
    )
    assert np.corrcoef(order_of(fit_estimator(name, blind, seed=1), 0.0), range(VIDEOS))[0, 1] < 0.0
