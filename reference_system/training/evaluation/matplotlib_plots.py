"""Plots of a training run that every use case has, and the style of all; as PNG.

In: evaluations of the test window. Out: bytes by file name.
Invariant: no window system and no global figure is involved, so any thread of any process can draw.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reference_system.arrays import Floats
from reference_system.training.evaluation.evaluation import Evaluation
from reference_system.training.evaluation.reliability import halving_edges
from reference_system.training.selection import Selection

BLUE, RED, GREY = "#2f6db3", "#c8553d", "#8a8f98"
_SHOWN_INPUTS = 20


def importance_plot(names: Sequence[str], falls: Floats) -> bytes:
    """How much worse the model orders the outcomes without each input, the most important on top."""
    figure = Figure(figsize=(7, 5.2), layout="constrained")
    axes = figure.subplots()
    order = np.argsort(-falls, kind="stable")[:_SHOWN_INPUTS][::-1]
    axes.barh([names[place] for place in order], falls[order], height=0.6, color=BLUE)
    axes.set(title="What the model looks at", xlabel="fall of the ROC AUC when the input is shuffled")
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.25, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    return png_of(figure)


def scorers_of(selection: Selection) -> dict[str, Evaluation]:
    """The evaluation of each candidate and of each baseline, by name."""
    found = {candidate.model.name: candidate.evaluation for candidate in selection.candidates}
    return found | {f"{name} alone": evaluation for name, evaluation in selection.baselines.items()}


def calibration_plot(scores: Floats, labels: Floats) -> bytes:
    """Whether a score is a probability."""
    figure, axes = figure_with_axes("Is the score a probability?", "mean score of the bin", "share of positive labels")
    edges = halving_edges(scores)
    bins = np.searchsorted(edges, scores, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    means, shares = (np.bincount(bins, values)[counts > 0] / counts[counts > 0] for values in (scores, labels))
    top = float(max(means.max(), shares.max()))
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, label="perfect")
    axes.plot(means, shares, marker="o", color=BLUE, label="bins, each half as large as the one before")
    axes.legend()
    return png_of(figure)


def figure_with_axes(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    """A figure of one panel, in the style of all."""
    figure = Figure(figsize=(7, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def png_of(figure: Figure) -> bytes:
    """The figure's file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
