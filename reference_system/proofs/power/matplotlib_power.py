"""Plot of the power curve.

In: the measured power. Out: one PNG.
Invariant: every point has a 95 % confidence interval.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from reference_system.monitoring.table_drift.report import FALSE_ALARM_RATE
from reference_system.proofs.power.drift_power import POWER, ROWS, WITHIN, PowerCell, PowerResult

# Okabe and Ito's palette: distinguishable with colour vision deficiency.
_COLOURS = ("#56b4e9", "#0072b2", "#009e73", "#d55e00")
_GREY = "#8a939e"
_Z = 1.96
_share = FuncFormatter(lambda value, _: f"{100 * value:g} %")


def draw_power(result: PowerResult, *, title: str) -> bytes:
    """Power of both methods, and their false alarms, as a PNG."""
    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9, color="#444", x=0.01, ha="left")
    table, live, false = figure.subplots(1, 3, width_ratios=(1.4, 1.0, 0.8))
    for colour, rows in zip(_COLOURS, ROWS, strict=True):
        cells = [cell for cell in result.cells if cell.method == "table" and cell.rows == rows and _is_mean(cell)]
        _curve(table, cells, colour, f"{rows:,} rows")
    _curve(live, [cell for cell in result.cells if cell.method == "live" and _is_mean(cell)], _COLOURS[1], "two days")
    for axes, name in ((table, "Any table"), (live, "Live monitor")):
        axes.axhline(POWER, color=_GREY, linestyle="--", linewidth=1.0, label=f"goal: {POWER:.0%}")
        axes.set_title(f"{name}: moved mean, alarm within {WITHIN}", loc="left", fontsize=10)
        axes.set_xlabel("shift, in standard deviations")
        axes.set_ylim(0.0, 1.03)
        axes.yaxis.set_major_formatter(_share)
        axes.legend(fontsize=8, frameon=False, loc="lower right")
    _false_alarms(false, [cell for cell in result.cells if cell.change == "none"])
    for axes in (table, live, false):
        axes.grid(visible=True, color="#e6e8eb", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def true_share_interval(cell: PowerCell) -> tuple[float, float]:
    """The 95 % confidence interval of the share.

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    n, share = cell.trials, cell.share
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * (share * (1 - share) / n + _Z**2 / (4 * n**2)) ** 0.5
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _is_mean(cell: PowerCell) -> bool:
    return cell.change == "mean"


def _curve(axes: Axes, cells: Sequence[PowerCell], colour: str, label: str) -> None:
    sizes = [cell.size for cell in cells]
    low, high = np.array([true_share_interval(cell) for cell in cells]).T
    axes.plot(sizes, [cell.share for cell in cells], color=colour, marker="o", markersize=3.5, label=label)
    axes.fill_between(sizes, low, high, color=colour, alpha=0.15, linewidth=0)


def _false_alarms(axes: Axes, cells: Sequence[PowerCell]) -> None:
    places = np.arange(len(cells))
    low, high = np.array([true_share_interval(cell) for cell in cells]).T
    shares = np.array([cell.share for cell in cells])
    axes.errorbar(
        places, shares, yerr=np.clip([shares - low, high - shares], 0.0, None), fmt="o", color=_COLOURS[1], capsize=3
    )
    axes.axhline(FALSE_ALARM_RATE, color=_GREY, linestyle="--", linewidth=1.0, label=f"stated: {FALSE_ALARM_RATE:.0%}")
    axes.set_xticks(places, [f"{cell.method}\n{cell.rows:,}" for cell in cells], fontsize=7)
    axes.set_xlim(-0.5, len(cells) - 0.5)
    axes.set_ylim(0.0, None)
    axes.yaxis.set_major_formatter(_share)
    axes.set_title("Alarms without drift", loc="left", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
