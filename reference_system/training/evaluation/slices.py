"""Slices: the parts of the test window in which a model must not fail while it shines on average.

In: rows of payments, or page cases. Out: which of them belong to each part, by name.
Invariant: a slice is found by the model's own inputs, so it is the same for every model that is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Flags, Floats32
from reference_system.training.recommendation.page_cases import PageCase
from reference_system.use_cases.fraud import features as fraud
from reference_system.use_cases.recommendation import features as recommendation
from reference_system.use_cases.recommendation.events import CATEGORIES

# The bands into which amounts fall (the first has no lower end, the last no upper one).
AMOUNT_EDGES = (10.0, 50.0, 150.0)
# Cards with at most this many payments in thirty days: nobody knows their habits yet.
FEW_PAYMENTS = 5
# Viewers with at least this many watches in thirty days.
MANY_WATCHES = 20
NEW_VIDEO_DAYS = 7.0

# Whether a video of a case belongs to a slice.
WantedPage = Callable[[PageCase, int], bool]


def payment_slices(inputs: Floats32) -> Mapping[str, Flags]:
    """Which payments, by amount, hour, age of the card and past of the terminal; each shape (n,)."""

    def column(name: str) -> NDArray[np.float32]:
        return inputs[:, fraud.INPUTS.index(name)]

    # What was refunded lies below the lowest band's name, and in it.
    amount, edges = np.maximum(column("amount"), 0.0), (0.0, *AMOUNT_EDGES, np.inf)
    night, known_fraud = column("is_night") > 0, column("terminal_fraud_rate_30d") > 0
    few = column("customer_transaction_count_30d") <= FEW_PAYMENTS
    bands = {_band(low, high): (low <= amount) & (amount < high) for low, high in pairwise(edges)}
    return {
        **bands,
        "night": night,
        "day": ~night,
        "new customers": few,
        "terminal with known fraud": known_fraud,
        "terminal without known fraud": ~known_fraud,
    }


def page_slices(cases: Sequence[PageCase], categories: Sequence[int]) -> Mapping[str, WantedPage]:
    """What counts of a page: everything for some viewers, or some videos for every viewer."""
    age = recommendation.INPUTS.index("video_age_days")
    watched = recommendation.INPUTS.index("viewer_watch_count_30d")
    new = {id(case): set(case.candidates[case.inputs[:, age] <= NEW_VIDEO_DAYS].tolist()) for case in cases}
    watches = {id(case): float(case.inputs[0, watched]) if len(case.inputs) else 0.0 for case in cases}
    by_category = {f"category {name}": _of_category(index, categories) for index, name in enumerate(CATEGORIES)}
    return {
        "new viewers": lambda case, _: watches[id(case)] <= 0.0,
        "active viewers": lambda case, _: watches[id(case)] >= MANY_WATCHES,
        "newest videos": lambda case, video: video in new[id(case)],
        **by_category,
    }


def _band(low: float, high: float) -> str:
    return f"amount {low:g} to {high:g}" if np.isfinite(high) else f"amount from {low:g}"


def _of_category(index: int, categories: Sequence[int]) -> WantedPage:
    return lambda _, video: categories[video] == index
