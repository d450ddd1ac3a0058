"""Importance by permutation: how much worse the order of the outcomes is when one input is shuffled.

In: a scorer, labelled rows, a seed. Out: one number an input: the fall of the ROC AUC.
Invariant: the model is asked, not taken apart, so every kind of model is measured alike.
Source: Breiman, Random forests, Machine Learning 45, 2001. Inputs that say the same share their importance.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from reference_system.arrays import Floats, Floats32, Ints
from reference_system.metrics.ranking import Ordered
from reference_system.training.labelled_rows import LabelledRows

# Rows of each class that are enough to see an importance of a hundredth.
_MOST_OF_A_CLASS = 4_000
_REPEATS = 2


def permutation_importance(score: Callable[[Floats32], Floats], rows: LabelledRows, *, seed: int) -> Floats:
    """The mean fall of the ROC AUC for each input, shape (width,)."""
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([_some(rng, np.flatnonzero(rows.labels == label)) for label in (0, 1)])
    inputs, labels = rows.inputs[chosen], rows.labels[chosen]
    whole = Ordered.by(score(inputs), labels).roc_auc()
    falls = np.zeros(inputs.shape[1])
    for column in range(inputs.shape[1]):
        for _ in range(_REPEATS):
            shuffled = inputs.copy()
            shuffled[:, column] = rng.permutation(shuffled[:, column])
            falls[column] += (whole - Ordered.by(score(shuffled), labels).roc_auc()) / _REPEATS
    return falls


def _some(rng: np.random.Generator, places: Ints) -> Ints:
    chosen: Ints = rng.choice(places, min(len(places), _MOST_OF_A_CLASS), replace=False)
    return chosen
