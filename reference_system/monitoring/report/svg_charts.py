"""Charts as inline SVG, drawn without a library so that they take the page's colours, dark or light.

In: numbers. Out: `<svg>` elements; colours and strokes are classes that the page's style sheet defines.
Invariant: every text from outside is escaped; no script, no style attribute, no reference to anything outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_ROW_BARS = (130.0, 30.0)
_SPARK = (74.0, 26.0)
_LINE = (900.0, 200.0)
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 14.0, 26.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartPoint:
    """A point of a line: `x` in days since 1970; `label` is its tooltip."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A stretch of time to mark, with its name."""

    start: float
    end: float
    label: str


def paired_bars(reference: Sequence[float], current: Sequence[float], labels: Sequence[str]) -> str:
    """Shares by bin: the reference as grey bars, the current window as coloured outlines over them."""
    width, height = _ROW_BARS
    highest = max([*reference, *current, 1e-9])
    step = width / len(reference)
    parts = []
    for i, (before, now, label) in enumerate(zip(reference, current, labels, strict=True)):
        title = f"<title>{escape(label)}: {before:.1%} before, {now:.1%} now</title>"
        x = i * step
        parts.append(_bar(x + step * 0.08, step * 0.84, before / highest, height, "ref", title))
        parts.append(_bar(x + step * 0.30, step * 0.40, now / highest, height, "cur", title))
    return _svg(width, height, "shares by bin, reference and current", parts, "bars")


def spark(values: Sequence[float | None], limit: float) -> str:
    """The trend of a psi over days, the oldest first, with its threshold as a dashed line."""
    width, height = _SPARK
    highest = max([*(value for value in values if value is not None), limit]) * 1.1
    step = width / max(len(values), 1)
    parts = [_dashed(0, width, height * (1 - limit / highest))]
    for i, value in enumerate(values):
        if value is not None:
            kind = "hot" if value > limit else "cur"
            title = f"<title>{len(values) - 1 - i} days ago: psi {value:.3f}</title>"
            parts.append(_bar(i * step + 1, step - 2, max(value / highest, 0.02), height, kind, title))
    return _svg(width, height, "psi of the last days", parts, "spark")


def volume_bars(days: Sequence[int]) -> str:
    """Events by day, the oldest first."""
    width, height = _SPARK
    highest = max([*days, 1])
    step = width / max(len(days), 1)
    parts = [
        _bar(i * step + 0.5, step - 1, value / highest, height, "cur", f"<title>{value:,} events</title>")
        for i, value in enumerate(days)
    ]
    return _svg(width, height, "events by day", parts, "spark")


def line_chart(  # noqa: PLR0913 - one argument for each thing that is drawn
    series: Sequence[Sequence[ChartPoint]],
    *,
    days: tuple[float, float],
    ticks: Sequence[tuple[float, str]],
    bands: Sequence[Band] = (),
    target: float | None = None,
    name: str,
) -> str:
    """A metric over event time: one line a model version, scenarios as bands, the gate's figure as a dashed line.

    Args:
        series: the points of each version.
        days: the first and the last day of the axis.
        ticks: days with the text under them.
        bands: stretches to mark.
        target: a value to compare with.
        name: what is drawn, for readers who cannot see it.
    """
    width, height = _LINE
    values = [point.y for line in series for point in line] + ([] if target is None else [target])
    low, high = _span(values)

    def across(day: float) -> float:
        return _LEFT + (day - days[0]) / max(days[1] - days[0], 1e-9) * (width - _LEFT - _RIGHT)

    def up(value: float) -> float:
        return height - _BOTTOM - (value - low) / (high - low) * (height - _TOP - _BOTTOM)

    parts = [
        _band(across(max(band.start, days[0])), across(band.end), band.label, row) for row, band in enumerate(bands)
    ]
    for value in (low, (low + high) / 2, high):
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{up(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    parts += [
        f'<text class="tick" x="{across(day):.1f}" y="{height - 8}" text-anchor="middle">{escape(text)}</text>'
        for day, text in ticks
    ]
    if target is not None:
        parts.append(_dashed(_LEFT, width - _RIGHT, up(target)))
    for number, line in enumerate(series):
        path = " ".join(f"{across(point.x):.1f},{up(point.y):.1f}" for point in line)
        parts.append(f'<polyline class="line v{number % 4}" points="{path}"/>')
        parts += [
            f'<circle class="dot v{number % 4}" cx="{across(point.x):.1f}" cy="{up(point.y):.1f}" r="3">'
            f"<title>{escape(point.label)}</title></circle>"
            for point in line
        ]
    return _svg(width, height, name, parts, "chart")


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    air = (high - low) * 0.12 or max(abs(high) * 0.1, 0.01)
    return (max(low - air, 0.0) if low >= 0 else low - air), high + air


def _band(start: float, end: float, label: str, row: int) -> str:
    """A marked stretch; its name stands left of its end, each band's on a line of its own."""
    width = max(end - start, 2.0)
    y = _TOP + 12 + 14 * (row % 4)
    return (
        f'<rect class="band" x="{start:.1f}" y="{_TOP}" width="{width:.1f}" height="{_LINE[1] - _TOP - _BOTTOM}"/>'
        f'<text class="bandname" x="{start + width - 4:.1f}" y="{y}" text-anchor="end">{escape(label)}</text>'
    )


def _bar(x: float, width: float, share: float, height: float, kind: str, title: str) -> str:  # noqa: PLR0913, PLR0917 - a rectangle
    tall = share * height
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{height - tall:.1f}" width="{width:.1f}" height="{tall:.1f}">'
        f"{title}</rect>"
    )


def _dashed(start: float, end: float, y: float) -> str:
    return f'<line class="limit" x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _svg(width: float, height: float, name: str, parts: Sequence[str], kind: str) -> str:
    head = f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(name)}">'
    return head + "".join(parts) + "</svg>"
