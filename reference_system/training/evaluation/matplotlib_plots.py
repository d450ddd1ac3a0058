"""Plots of a training run, as PNG.

In: evaluations of the test window. Out: bytes by file name.
Invariant: no window system and no global figure is involved, so any thread of any process can draw.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reference_system.arrays import Floats
from reference_system.training.evaluation.evaluation import Evaluation
from reference_system.training.evaluation.ranking_metrics import Ordered
from reference_system.training.evaluation.reliability import halving_edges
from reference_system.training.labelled_rows import LabelledRows
from reference_system.training.selection import Selection

_BLUE, _RED, _GREY = "#2f6db3", "#c8553d", "#8a8f98"
_SHOWN_INPUTS = 20


def importance_plot(names: Sequence[str], falls: Floats) -> bytes:
    """How much worse the model orders the outcomes without each input, the most important on top."""
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(-falls, kind="stable")[:_SHOWN_INPUTS][::-1]
    axes.barh([names[place] for place in order], falls[order], height=0.6, color=_BLUE)
    axes.set(title="What the model looks at", xlabel="fall of the ROC AUC when the input is shuffled")
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.25, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def fraud_plots(selection: Selection, test: LabelledRows) -> dict[str, bytes]:
    """Precision and recall, the scores of both classes, and whether a score is a probability."""
    best = selection.best.evaluation.scores
    return {
        "precision_recall.png": _precision_recall(_scorers(selection), test.labels),
        "scores.png": _score_histogram(best, test.labels),
        "calibration.png": _calibration(best, test.labels),
    }


def recommendation_plots(selection: Selection, test: LabelledRows, positions: Floats) -> dict[str, bytes]:
    """Ndcg by method, the effect of the position, and whether a score is a probability."""
    best = selection.best.evaluation.scores
    return {
        "ndcg.png": _ndcg(_scorers(selection)),
        "position.png": _position(best, test.labels, positions),
        "calibration.png": _calibration(best, test.labels),
    }


def _scorers(selection: Selection) -> dict[str, Evaluation]:
    judged = {candidate.model.name: candidate.evaluation for candidate in selection.candidates}
    return judged | {f"{name} alone": evaluation for name, evaluation in selection.baselines.items()}


def _precision_recall(scorers: Mapping[str, Evaluation], labels: Floats) -> bytes:
    figure, axes = _figure("Precision and recall in the test window", "recall", "precision")
    for name, evaluation in scorers.items():
        precision, recall = Ordered.by(evaluation.scores, labels).precision_recall()
        value = evaluation.metrics["average_precision"]
        axes.step(recall, precision, where="post", label=f"{name} (average precision {value:.3f})")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8)
    return _png(figure)


def _score_histogram(scores: Floats, labels: Floats) -> bytes:
    figure, axes = _figure("Scores in the test window", "score", "share of the class's payments")
    edges = np.linspace(0, 1, 41).tolist()
    for label, name, colour in ((0, "genuine", _BLUE), (1, "fraud", _RED)):
        of_class = scores[labels == label]
        weights = np.full(len(of_class), 1.0 / len(of_class))
        axes.hist(of_class, edges, weights=weights, alpha=0.6, color=colour, label=f"{name} ({len(of_class)})")
    axes.set_yscale("log")
    axes.legend()
    return _png(figure)


def _calibration(scores: Floats, labels: Floats) -> bytes:
    figure, axes = _figure("Is the score a probability?", "mean score of the bin", "share of positive labels")
    edges = halving_edges(scores)
    bins = np.searchsorted(edges, scores, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    means, shares = (np.bincount(bins, values)[counts > 0] / counts[counts > 0] for values in (scores, labels))
    top = float(max(means.max(), shares.max()))
    axes.plot([0, top], [0, top], color=_GREY, linewidth=1, label="perfect")
    axes.plot(means, shares, marker="o", color=_BLUE, label="bins, each half as large as the one before")
    axes.legend()
    return _png(figure)


def _ndcg(scorers: Mapping[str, Evaluation]) -> bytes:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    names = list(scorers)
    places = np.arange(len(names))
    panels = (
        ("ndcg@10", "ndcg@10, watches weighted\nby how rarely their video was shown", _BLUE),
        ("ndcg@10_as_shown", "ndcg@10 as shown:\nfavours what was shown often", _GREY),
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
    return _png(figure)


def _position(scores: Floats, labels: Floats, positions: Floats) -> bytes:
    figure, axes = _figure("The effect of the position", "position on the page", "share watched")
    places = np.unique(positions)
    of_place = [positions == place for place in places]
    axes.plot(places, [labels[rows].mean() for rows in of_place], marker="o", color=_RED, label="watched")
    axes.plot(places, [scores[rows].mean() for rows in of_place], marker="o", color=_BLUE, label="mean score")
    axes.set_ylim(bottom=0)
    axes.legend()
    return _png(figure)


def _figure(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
