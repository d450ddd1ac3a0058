"""Reliability: is a score a probability?

In: scores and labels. Out: one number. Invariant: 0 for scores that are right on average in every bin.
"""

from __future__ import annotations

import numpy as np

from reference_system.arrays import Floats

_ROWS_OF_LAST_BIN = 50


def halving_edges(scores: Floats) -> Floats:
    """Edges of bins of which each holds half of the rows above the bin before it.

    Most rows score low, and the few others matter: bins of equal size would put all of them into one.
    """
    halvings = int(np.log2(max(len(scores) / _ROWS_OF_LAST_BIN, 2)))
    edges: Floats = np.unique(np.quantile(scores, 1.0 - 0.5 ** np.arange(1, halvings + 1)))
    return edges


def expected_calibration_error(scores: Floats, labels: Floats) -> float:
    """The mean distance of a bin's mean score from its share of positives, each bin with the weight of its rows.

    Source: Naeini, Cooper and Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015;
    with the bins of `halving_edges`.
    """
    bins = np.searchsorted(halving_edges(scores), scores, side="right")
    return float(np.abs(np.bincount(bins, scores) - np.bincount(bins, labels)).sum() / len(scores))
