"""Plot of the effect over time.

In: an experiment and its report. Out: PNG or SVG bytes.
Invariant: no window system and no global figure is used, so any thread of any process can draw.
"""

from __future__ import annotations

import io
from datetime import datetime, timedelta
from typing import Literal

from matplotlib.figure import Figure

from reference_system.experiments.definition import Experiment
from reference_system.experiments.report import ExperimentReport
from reference_system.experiments.wording import UNITS

_BLUE, _GREY, _RED = "#0072b2", "#8a939e", "#d55e00"
# The limit of the axis in current half-widths: the first band, of fifty viewers, would hide everything else.
_WIDEST = 3.0


def draw_effect(experiment: Experiment, report: ExperimentReport, kind: Literal["png", "svg"]) -> bytes:
    """The effect with its interval, and the zero line."""
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    axes = figure.subplots()
    times = [_days(experiment, point.event_timestamp) for point in report.course]
    low, high = [point.low for point in report.course], [point.high for point in report.course]
    axes.fill_between(times, low, high, color=_BLUE, alpha=0.18, linewidth=0, label="95 % confidence sequence")
    axes.plot(times, [point.effect for point in report.course], color=_BLUE, label="treatment less control")
    axes.axhline(0.0, color=_GREY, linewidth=1)
    if report.effect is not None:
        if report.effect.sure_since is not None:
            since = _days(experiment, report.effect.sure_since)
            axes.axvline(since, color=_RED, linestyle="--", linewidth=1, label="sure since")
        around, half = report.effect.value, _WIDEST * (report.effect.high - report.effect.low) / 2.0
        axes.set_ylim(min(around - half, -0.2 * half), max(around + half, 0.2 * half))
    axes.set_xlabel(f"days of event time after {experiment.started:%Y-%m-%d %H:%M} at which the outcomes were known")
    axes.set_ylabel(f"difference in {UNITS[experiment.metric]}")
    title = f"{experiment.name}: version {experiment.treatment} against {experiment.control}"
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False, ncols=3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, dpi=110)
    return buffer.getvalue()


def _days(experiment: Experiment, moment: datetime) -> float:
    return (moment - experiment.started) / timedelta(days=1)
