"""Three plots of a load test: latency over time, distribution of latency, rates over time.

In: samples and figures. Out: one PNG.
Invariant: every panel shows every request; no average over time hides a stall.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reference_system.load_test.figures import EVERYTHING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from reference_system.load_test.figures import Figures, Second
    from reference_system.load_test.plan import LoadPlan
    from reference_system.load_test.samples import Samples

# Okabe and Ito's palette: distinguishable with colour vision deficiency.
_BLUE, _ORANGE, _GREEN, _RED, _GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a939e"
_ENDPOINT_COLOURS = (_BLUE, _GREEN)
_PERCENTILES = (("p50_ms", "p50", _BLUE), ("p95_ms", "p95", _ORANGE), ("p99_ms", "p99", _RED))
_MS = 1_000.0
_SMALLEST_MS = 0.05
_plain = FuncFormatter(lambda value, _: f"{value:g}")
_share = FuncFormatter(lambda value, _: f"{100 * value:g} %")


def draw_load(samples: Samples, plan: LoadPlan, figures: Figures, seconds: Sequence[Second], *, title: str) -> bytes:
    """The three panels, one above the other, as a PNG."""
    figure = Figure(figsize=(10, 11), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9, color="#444", x=0.01, ha="left")
    over_time, distribution, rates = figure.subplots(3, 1, height_ratios=(1.2, 1, 0.8))
    _latency_over_time(over_time, samples, plan, seconds)
    _latency_distribution(distribution, samples, plan, figures)
    _rates_over_time(rates, plan, seconds)
    for axes in (over_time, distribution, rates):
        axes.grid(visible=True, color="#e6e8eb", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        # Next to the title: inside the axes it would cover the tail.
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False, ncols=6, columnspacing=1.2
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _latency_over_time(axes: Axes, samples: Samples, plan: LoadPlan, seconds: Sequence[Second]) -> None:
    good = samples.outcome == 0
    latency = np.maximum(_MS * samples.latency, _SMALLEST_MS)
    axes.scatter(samples.due[good], latency[good], s=5, color=_GREY, alpha=0.5, linewidths=0, label="one request")
    if not good.all():
        axes.scatter(samples.due[~good], latency[~good], s=14, color=_RED, marker="x", linewidths=0.8, label="failed")
    middles = [second.second + 0.5 for second in seconds]
    for name, label, colour in _PERCENTILES:
        values = [np.nan if (value := getattr(second, name)) is None else value for second in seconds]
        axes.plot(middles, values, color=colour, linewidth=1.4, marker="o", markersize=2.5, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_plain)
    axes.set_title("Latency by due time, percentiles of each second", loc="left", fontsize=11)
    axes.set_ylabel("ms (log)")
    _time_axis(axes, plan)


def _latency_distribution(axes: Axes, samples: Samples, plan: LoadPlan, figures: Figures) -> None:
    """The share of requests that took longer, on logarithmic axes: a percentile is a height, the tail is visible.

    A failed request counts as longer than any time, so a curve with failures ends above zero.
    """
    measured = samples.due >= plan.warm_up_seconds
    latency = np.where(samples.outcome == 0, np.maximum(_MS * samples.latency, _SMALLEST_MS), np.inf)
    for index, name in enumerate(samples.endpoints):
        chosen = np.sort(latency[measured & (samples.endpoint == index)])
        if len(chosen) and np.isfinite(chosen[0]):
            slower = 1.0 - np.arange(len(chosen)) / len(chosen)
            axes.plot(chosen, slower, color=_ENDPOINT_COLOURS[index], linewidth=1.6, drawstyle="steps-pre", label=name)
    row = figures.endpoints[EVERYTHING]
    failed = sum(row.errors.values())
    if failed:
        share = failed / row.requests
        axes.axhline(share, color=_RED, linestyle=":", linewidth=1.2, label=f"failed {share:.1%}")
    for (name, label, colour), share in zip(_PERCENTILES, (0.5, 0.05, 0.01), strict=True):
        value = getattr(row, name)
        if value is not None:
            axes.plot(value, share, "o", color=colour, markersize=6, label=f"{label} {value:.1f} ms")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title("How many requests took longer", loc="left", fontsize=11)
    axes.set_xlabel("latency, ms (log)")
    axes.set_ylabel("share that took longer (log)")
    axes.xaxis.set_major_formatter(_plain)
    axes.yaxis.set_major_formatter(_share)


def _rates_over_time(axes: Axes, plan: LoadPlan, seconds: Sequence[Second]) -> None:
    ends = [*(second.second for second in seconds), len(seconds)]
    axes.axhline(plan.rate, color=_GREY, linestyle="--", linewidth=1.2, label=f"requested: {plan.rate:g}/s")
    axes.stairs(
        [second.arrived for second in seconds], ends, color=_BLUE, linewidth=1.3, baseline=None, label="arrived"
    )
    axes.stairs(
        [second.answered for second in seconds],
        ends,
        color=_GREEN,
        linewidth=1.3,
        baseline=None,
        label="answered successfully",
    )
    failed = [second.failed for second in seconds]
    if any(failed):
        axes.stairs(failed, ends, color=_RED, fill=True, alpha=0.5, label="failed, by due time")
    axes.set_ylim(bottom=0)
    axes.set_title("Rates", loc="left", fontsize=11)
    axes.set_ylabel("requests/s")
    axes.set_xlabel("seconds after the start")
    _time_axis(axes, plan)


def _time_axis(axes: Axes, plan: LoadPlan) -> None:
    axes.set_xlim(0, plan.whole_seconds)
    axes.axvspan(0, plan.warm_up_seconds, color="#f0f1f3", label="warm-up", zorder=0)
