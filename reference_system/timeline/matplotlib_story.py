"""Plot of the models' timeline.

In: a story. Out: a PNG or an SVG: average precision and watch rate over event time, with the entries marked.
Invariant: provisional days have hollow markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from reference_system.event_time import MICROS_PER_DAY, moment_of
from reference_system.timeline.story import Story, StoryLine

_MARKED = {"scenario": "tab:purple", "alarm": "tab:red", "retraining": "tab:orange", "champion": "tab:green"}


def draw_story(story: Story, path: Path) -> None:
    """Write the plot in the format of the suffix."""
    told = {each.use_case for each in story.happenings}
    panels = [(use_case, panel) for use_case, panel in _PANELS.items() if use_case in told or not told]
    figure = Figure(figsize=(11, 3.5 * len(panels)), layout="constrained")
    for axes, (use_case, panel) in zip(figure.subplots(len(panels), 1, squeeze=False).flat, panels, strict=True):
        panel(axes, story)
        _mark(axes, [each for each in story.happenings if each.use_case == use_case])
        axes.grid(alpha=0.3)
        axes.xaxis_date()
        axes.tick_params(axis="x", labelrotation=20)
    figure.savefig(path, dpi=120)


def _fraud(axes: Axes, story: Story) -> None:
    axes.set_title("fraud: average precision by day of the payment (hollow: labels as reported so far)", loc="left")
    lines = {
        f"version {version} on the same payments": [
            (day.day, day.average_precision[version], day.mature)
            for day in story.fraud_days
            if version in day.average_precision and version not in day.learned_by
        ]
        for version in sorted({name for day in story.fraud_days for name in day.average_precision})
    }
    lines["as answered"] = [
        (day.day, day.answered, day.mature) for day in story.fraud_days if day.answered is not None
    ]
    for name, points in lines.items():
        if points:
            _line(axes, name, points)
    if story.fraud_days:
        axes.set_ylim(0.0, 1.0)
        axes.legend(fontsize="small")


def _pages(axes: Axes, story: Story) -> None:
    axes.set_title("recommendation: watch rate by day and version", loc="left")
    for version in sorted({day.version for day in story.recommendation_days}):
        points = [
            (day.day, day.watch_rate, True)
            for day in story.recommendation_days
            if day.version == version and day.watch_rate is not None
        ]
        if points:
            _line(axes, f"version {version}", points)
    if story.recommendation_days:
        axes.legend(fontsize="small")


_PANELS = {"fraud": _fraud, "recommendation": _pages}


def _line(axes: Axes, name: str, points: Sequence[tuple[int, float, bool]]) -> None:
    moments = [_place(moment_of(day * MICROS_PER_DAY + MICROS_PER_DAY // 2)) for day, _, _ in points]
    (line,) = axes.plot(moments, [value for _, value, _ in points], linewidth=1.5, label=name)
    for moment, (_, value, mature) in zip(moments, points, strict=True):
        axes.plot([moment], [value], "o", color=line.get_color(), fillstyle="full" if mature else "none")


def _mark(axes: Axes, happenings: Sequence[StoryLine]) -> None:
    """Draw a line at each time, labelled with all its entries."""
    moments: dict[datetime, list[StoryLine]] = {}
    for each in happenings:
        if each.kind in _MARKED:
            moments.setdefault(each.event_timestamp, []).append(each)
    for moment, together in moments.items():
        colour = _MARKED[together[-1].kind]
        axes.axvline(_place(moment), color=colour, linewidth=1, linestyle="--")
        axes.annotate(
            ", ".join(_name(each) for each in together),
            (_place(moment), 1.0),
            xycoords=("data", "axes fraction"),
            rotation=90,
            fontsize=7,
            ha="right",
            va="top",
            color=colour,
        )


def _name(each: StoryLine) -> str:
    return each.text if each.kind == "scenario" else f"{each.kind} {each.version or ''}".strip()


def _place(moment: datetime) -> float:
    return float(date2num(moment))  # type: ignore[no-untyped-call]
