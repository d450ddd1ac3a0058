"""Plots of a training of the ranker, as PNG."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from reference_system.arrays import Floats
from reference_system.training.evaluation.evaluation import Evaluation
from reference_system.training.evaluation.matplotlib_plots import (
    BLUE,
    GREY,
    RED,
    calibration_plot,
    figure_with_axes,
    png_of,
    scorers_of,
)
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.selection import Selection


def recommendation_plots(selection: Selection, test: LabelledRows, positions: Floats) -> dict[str, bytes]:
    """Ndcg by method, the effect of the position, and whether a score is a probability."""
    best = selection.best.evaluation.scores
    return {
        "ndcg.png": _ndcg(scorers_of(selection)),
        "position.png": _position(best, test.labels, positions),
        "calibration.png": calibration_plot(best, test.labels),
    }


def _ndcg(scorers: Mapping[str, Evaluation]) -> bytes:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    names = list(scorers)
    places = np.arange(len(names))
    panels = (
        ("ndcg@10", "ndcg@10, watches weighted\nby how rarely their video was shown", BLUE),
        ("ndcg@10_as_shown", "ndcg@10 as shown:\nfavours what was shown often", GREY),
    )
    for axes, (metric, title, colour) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        values = [scorers[name].metrics[metric] for name in names]
        axes.barh(places, values, height=0.6, color=colour)
        for place, value in zip(places, values, strict=True):
            axes.text(value, place, f" {value:.4f}", va="center", fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.set_yticks(places, names)
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()
    return png_of(figure)


def _position(scores: Floats, labels: Floats, positions: Floats) -> bytes:
    figure, axes = figure_with_axes("The effect of the position", "position on the page", "share watched")
    places = np.unique(positions)
    of_place = [positions == place for place in places]
    axes.plot(places, [labels[rows].mean() for rows in of_place], marker="o", color=RED, label="watched")
    axes.plot(places, [scores[rows].mean() for rows in of_place], marker="o", color=BLUE, label="mean score")
    axes.set_ylim(bottom=0)
    axes.legend()
    return png_of(figure)
