"""Ranking metrics, against scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from reference_system.metrics.ranking import Ordered


@st.composite
def scored(draw):
    """Rows of both classes; few distinct scores, so that there are ties."""
    rows = draw(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60))
    labels = np.array([float(label) for _, label in rows])
    labels[:2] = (0.0, 1.0)
    return np.array([score / 8 for score, _ in rows]), labels


@given(scored())
def test_the_values_are_those_of_scikit_learn_ties_included(rows):
    scores, labels = rows
    ordered = Ordered.by(scores, labels)
    assert ordered.average_precision() == pytest.approx(average_precision_score(labels, scores))
    assert ordered.roc_auc() == pytest.approx(roc_auc_score(labels, scores))


@given(scored(), st.integers(0, 2**32 - 1))
def test_weights_count_rows_as_if_they_were_repeated(rows, seed):
    scores, labels = rows
    weights = np.random.default_rng(seed).integers(0, 4, len(labels))
    weights[1] = 1
    expected = average_precision_score(np.repeat(labels, weights), np.repeat(scores, weights))
    assert Ordered.by(scores, labels).average_precision(weights.astype(float)) == pytest.approx(expected)


def test_without_positive_weight_there_is_no_average_precision():
    assert math.isnan(Ordered.by(np.array([0.1, 0.2]), np.array([0.0, 1.0])).average_precision(np.array([1.0, 0.0])))


def test_precision_and_recall_are_scikit_learns_in_the_other_direction():
    rng = np.random.default_rng(4)
    scores, labels = rng.random(50), (rng.random(50) < 0.3).astype(float)
    precision, recall = Ordered.by(scores, labels).precision_recall()
    expected_precision, expected_recall, _ = precision_recall_curve(labels, scores)
    np.testing.assert_allclose(precision[::-1], expected_precision[:-1])
    np.testing.assert_allclose(recall[::-1], expected_recall[:-1])
