"""Plots of a soak test.

In: samples. Out: one PNG: memory, files, disk, CPU time, lag and lateness over time.
Invariant: the dashed line marks the end of the warm-up; the bounds apply to the samples after it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reference_system.arrays import Floats
from reference_system.proofs.soak.bounds import WARM_UP
from reference_system.proofs.soak.sampler import Sample

# Okabe and Ito's palette: distinguishable with colour vision deficiency.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8a939e")
_PANELS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Memory (MB)", "memory of ", ("all",)),
    ("Parquet files of the lake", "files", ()),
    ("Disk (MB)", "disk of ", ("all",)),
    ("Processor time (cores, five minutes)", "cpu of ", ()),
    ("Behind the world (simulated hours)", "behind", ()),
    ("Late (s)", "late: ", ()),
)
_MOST_LINES = 8
_WINDOW = 300.0


def draw_soak(samples: Sequence[Sample], *, title: str) -> bytes:
    """The plots as a PNG."""
    figure = Figure(figsize=(12, 7.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9, color="#444", x=0.01, ha="left")
    names = sorted({name for sample in samples for name in sample.figures})
    for axes, (heading, part, without) in zip(figure.subplots(2, 3).flat, _PANELS, strict=True):
        chosen = [name for name in names if part in name and not any(f" {word} " in name for word in without)]
        largest = sorted(chosen, key=lambda name: -_of(samples, name)[1].max())[:_MOST_LINES]
        for colour, name in zip(_COLOURS, largest, strict=False):
            minutes, values = _of(samples, name)
            shape: Callable[[Floats, Floats], Floats] = _cores if part == "cpu of " else _as_it_is
            axes.plot(minutes, shape(minutes, values), color=colour, linewidth=1.2, label=_short(name))
        _dress(axes, heading, samples)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _of(samples: Sequence[Sample], name: str) -> tuple[Floats, Floats]:
    found = [(sample.seconds / 60, sample.figures[name]) for sample in samples if name in sample.figures]
    minutes, values = (np.array(column, dtype=np.float64) for column in zip(*found, strict=True))
    return minutes, values


def _as_it_is(_: Floats, values: Floats) -> Floats:
    return values


def _cores(minutes: Floats, seconds: Floats) -> Floats:
    """CPU seconds per second, over the last five minutes."""
    before = np.maximum(np.searchsorted(minutes, minutes - _WINDOW / 60), 0)
    before = np.minimum(before, np.maximum(np.arange(len(minutes)) - 1, 0))
    passed = 60 * (minutes - minutes[before])
    cores: Floats = np.divide(seconds - seconds[before], passed, out=np.full(len(minutes), np.nan), where=passed > 0)
    return cores


def _dress(axes: Axes, heading: str, samples: Sequence[Sample]) -> None:
    first, last = samples[0].seconds / 60, samples[-1].seconds / 60
    axes.axvline(first + WARM_UP * (last - first), color="#8a939e", linestyle="--", linewidth=1.0)
    axes.set_title(heading, loc="left", fontsize=10)
    axes.set_xlabel("minutes")
    axes.set_ylim(bottom=0.0)
    axes.grid(visible=True, color="#e6e8eb", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


def _short(name: str) -> str:
    """The name without the words of the heading."""
    for word in ("memory of ", "disk of ", "cpu of ", "late: ", " (MB)", " (s)", " (h)", " behind"):
        name = name.replace(word, "")
    return name
