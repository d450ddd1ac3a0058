"""The candidates for the fraud score and how they are judged.

In: feature rows in the order of `features.INPUTS`, labels 0 or 1. Out: a score in [0, 1].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reference_system.use_cases.fraud.features import INPUTS
from reference_system.windows import Floats

NAME = "fraud"
SIGNATURE = INPUTS
# Estimators by the names that `training/sklearn_estimators.py` knows; the first is the simple one.
# Default gradient boosting is a trap on card data: it is compared, not assumed.
CANDIDATES = ("logistic_regression", "random_forest", "extra_trees", "gradient_boosting")
PRIMARY_METRIC = "average_precision"
# What would decide without a model: an input that serves as the score. A first model must beat it.
BASELINES = ("amount",)
TRAIN_DAYS = 28
TEST_DAYS = 7
# How candidates are chosen inside the training window: a fold learns for a week, waits for the labels, is judged for a
# week; the folds move on by a week.
FOLD_TRAIN_DAYS = 7
FOLD_TEST_DAYS = 7
FOLDS = 3
# Where a window has more genuine payments, so many stand for all, with their weight: frauds are what is rare.
MOST_GENUINE = 30_000
# Cards that can be looked at in a day: the handbook's 100, but never more than one card in 25, or a small world would
# check everybody.
CHECKED_CARDS = 100
CARDS_FOR_EACH_CHECKED = 25


def checked_cards(cards: int) -> int:
    """The k of card precision@k where so many cards pay: at most `CHECKED_CARDS`, at least 1."""
    return max(1, min(CHECKED_CARDS, cards // CARDS_FOR_EACH_CHECKED))


def card_precision_at(  # noqa: PLR0913 - columns of one table
    scores: Floats,
    labels: Floats,
    customers: NDArray[np.int64],
    days: NDArray[np.int64],
    *,
    k: int,
    drop_detected: bool = False,
) -> float:
    """Mean over days of the share of truly compromised cards among the k cards with the highest scores.

    A card's score on a day is the highest of its payments'; it is compromised if any of them is a fraud. With
    `drop_detected` a compromised card that was among the k of one day is blocked, and not seen on the days after.
    Shapes: all (n,). Source: Fraud Detection Handbook, chapter 4, "Card Precision@k".
    """
    precisions = []
    blocked = np.empty(0, np.int64)
    for day in np.unique(days):
        of_day = (days == day) & ~np.isin(customers, blocked)
        cards, inverse = np.unique(customers[of_day], return_inverse=True)
        top = np.zeros(len(cards))
        np.maximum.at(top, inverse, scores[of_day])
        compromised = np.zeros(len(cards))
        np.maximum.at(compromised, inverse, labels[of_day])
        first = np.argsort(-top, kind="stable")[:k]
        precisions.append(compromised[first].sum() / k)
        if drop_detected:
            blocked = np.append(blocked, cards[first[compromised[first] > 0]])
    return float(np.mean(precisions)) if precisions else 0.0
