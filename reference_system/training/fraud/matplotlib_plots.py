"""Plots of a training of the fraud model, as PNG."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from reference_system.arrays import Floats
from reference_system.metrics.ranking import Ordered
from reference_system.training.evaluation.evaluation import Evaluation
from reference_system.training.evaluation.matplotlib_plots import (
    BLUE,
    RED,
    calibration_plot,
    figure_with_axes,
    png_of,
    scorers_of,
)
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.selection import Selection


def fraud_plots(selection: Selection, test: LabelledRows) -> dict[str, bytes]:
    """Precision and recall, the scores of both classes, and whether a score is a probability."""
    best = selection.best.evaluation.scores
    return {
        "precision_recall.png": _precision_recall(scorers_of(selection), test.labels),
        "scores.png": _score_histogram(best, test.labels),
        "calibration.png": calibration_plot(best, test.labels),
    }


def _precision_recall(scorers: Mapping[str, Evaluation], labels: Floats) -> bytes:
    figure, axes = figure_with_axes("Precision and recall in the test window", "recall", "precision")
    for name, evaluation in scorers.items():
        precision, recall = Ordered.by(evaluation.scores, labels).precision_recall()
        value = evaluation.metrics["average_precision"]
        axes.step(recall, precision, where="post", label=f"{name} (average precision {value:.3f})")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8)
    return png_of(figure)


def _score_histogram(scores: Floats, labels: Floats) -> bytes:
    figure, axes = figure_with_axes("Scores in the test window", "score", "share of the class's payments")
    edges = np.linspace(0, 1, 41).tolist()
    for label, name, colour in ((0, "genuine", BLUE), (1, "fraud", RED)):
        of_class = scores[labels == label]
        weights = np.full(len(of_class), 1.0 / len(of_class))
        axes.hist(of_class, edges, weights=weights, alpha=0.6, color=colour, label=f"{name} ({len(of_class)})")
    axes.set_yscale("log")
    axes.legend()
    return png_of(figure)
