"""The candidates for the fraud score and how they are judged.

In: feature rows in the order of `features.INPUTS`, labels 0 or 1. Out: a score in [0, 1].
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from reference_system.arrays import Floats
from reference_system.use_cases.fraud.features import INPUTS

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
    Cards with the same score are looked at in no order: where the k-th is one of them, each has the same share of the
    places that are left, so that it makes no difference how cards are numbered; a card of which a share was found
    stays with the rest. Shapes: all (n,). Source: Fraud Detection Handbook, chapter 4, "Card Precision@k".
    """
    precisions = []
    all_cards, numbers = np.unique(customers, return_inverse=True)
    # How much of each card is still there; 0 or 1 but for ties.
    there = np.ones(len(all_cards))
    for day in np.unique(days):
        of_day = (days == day) & (there[numbers] > 0.0)
        cards, inverse = np.unique(numbers[of_day], return_inverse=True)
        top = np.zeros(len(cards))
        np.maximum.at(top, inverse, scores[of_day])
        compromised = np.zeros(len(cards))
        np.maximum.at(compromised, inverse, labels[of_day])
        looked_at = there[cards] * _share_of_first(top, there[cards], k)
        precisions.append(math.fsum(compromised * looked_at) / k)
        if drop_detected:
            there[cards] -= compromised * looked_at
    return float(np.mean(precisions)) if precisions else 0.0


def _share_of_first(scores: Floats, weights: Floats, k: int) -> Floats:
    """The share of each card that is among the first k, the highest scores first; equal scores have equal shares."""
    runs, numbers = np.unique(-scores, return_inverse=True)
    size = np.bincount(numbers, weights, minlength=len(runs))
    before = np.cumsum(size) - size
    found: Floats = np.clip((k - before) / np.maximum(size, 1e-12), 0.0, 1.0)[numbers]
    return found
