"""An experiment for people: a table of the arms, the effect over time as text, the verdict; and the plot as a file.

In: an experiment and its report. Out: text on stdout, or a PNG or SVG file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from reference_system.commands.terminal.tables import print_table, reader_console
from reference_system.errors import StateError
from reference_system.experiments.definition import Experiment
from reference_system.experiments.report import EffectPoint, ExperimentReport
from reference_system.experiments.wording import UNITS

_COLUMNS, _ROWS = 66, 13
_PNG, _SVG = ".png", ".svg"


def print_report(experiment: Experiment, report: ExperimentReport) -> None:
    """Everything that a person decides on; the verdict comes last."""
    console = reader_console()
    state = "on" if experiment.stopped is None else f"stopped {experiment.stopped:%Y-%m-%d %H:%M}"
    console.print(
        f"{experiment.name}: started {experiment.started:%Y-%m-%d %H:%M}, {state}, as of"
        f" {report.as_of:%Y-%m-%d %H:%M} (event time)"
    )
    print_table(_arms(experiment, report), console=console)
    ratio = report.sample_ratio
    if ratio is not None:
        console.print(
            f"sample ratio: treatment {ratio.found_share:.1%}, expected {ratio.expected_share:.1%}"
            f" (p {ratio.p_value:.2g} at any time, chi-square {ratio.chi_square_p:.2g})"
        )
    if report.variance_reduction is not None:
        console.print(f"variance taken away by what viewers did before: {report.variance_reduction:.1%}")
    if report.course:
        console.print(
            f"\ntreatment less control, {UNITS[experiment.metric]}, with the band that holds at every moment"
        )
        console.print("\n".join(text_plot(report.course)), markup=False)
        console.print()
    for note in report.notes:
        console.print(note)
    console.print(report.verdict, style=None if report.usable else "red", markup=False)


def _arms(experiment: Experiment, report: ExperimentReport) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("arm")
    for heading in ("version", "viewers", "exposures", "other version", "analysed", experiment.metric):
        table.add_column(heading, justify="right")
    for name, arm in (("control", report.control), ("treatment", report.treatment)):
        counts = (arm.viewers, arm.exposures, arm.other_version, arm.analysed)
        metric = "–" if arm.metric is None else f"{arm.metric:.4g}"
        table.add_row(name, arm.version, *(f"{count:,}" for count in counts), metric)
    return table


def text_plot(points: Sequence[EffectPoint]) -> list[str]:
    """The effect and its band as lines of text: `░` the band, `●` the effect, `─` zero.

    The early band, which is many times wider than the last, is cut off.
    """
    last = points[-1]
    half = 1.5 * (last.high - last.low) / 2.0 or 1.0
    top, bottom = max(last.effect + half, 0.1 * half), min(last.effect - half, -0.1 * half)
    step = (top - bottom) / (_ROWS - 1)
    begun, span = points[0].event_timestamp, last.event_timestamp - points[0].event_timestamp
    columns: list[EffectPoint] = []
    for column in range(_COLUMNS):
        moment = begun + span * (column / (_COLUMNS - 1))
        columns.append([point for point in points if point.event_timestamp <= moment][-1])
    rows = []
    for row in range(_ROWS):
        height = top - row * step
        label = "0" if abs(height) <= step / 2.0 else f"{height:+.3g}"
        rows.append(f"{label:>9} │" + "".join(_mark(point, height, step / 2.0) for point in columns))
    days = f"{begun:%Y-%m-%d %H:%M}", f"{last.event_timestamp:%Y-%m-%d %H:%M}"
    return [*rows, f"{'':>9} └{'─' * _COLUMNS}", f"{'':>11}{days[0]}{days[1]:>{_COLUMNS - len(days[0])}}"]


def _mark(point: EffectPoint, height: float, half: float) -> str:
    if abs(point.effect - height) <= half:
        return "●"
    if abs(height) <= half:
        return "─"
    return "░" if point.low <= height <= point.high else " "


def write_plot(experiment: Experiment, report: ExperimentReport, path: Path) -> None:
    """Draw the effect over time.

    Raises:
        StateError: if there is nothing to draw, or the file cannot be written.
    """
    from reference_system.experiments import matplotlib_effect

    if path.suffix not in (_PNG, _SVG):
        raise StateError(f"{path} is neither {_PNG} nor {_SVG}")
    if not report.course:
        raise StateError(f"there is no effect to draw yet: {report.verdict}")
    content = matplotlib_effect.draw_effect(experiment, report, "png" if path.suffix == _PNG else "svg")
    try:
        path.write_bytes(content)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error


def print_list(experiments: Sequence[Experiment]) -> None:
    """One row an experiment."""
    table = Table(box=None, pad_edge=False)
    for heading in ("experiment", "started", "stopped", "treatment", "control", "metric", "result"):
        table.add_column(heading, overflow="fold")
    for each in experiments:
        stopped = "on" if each.stopped is None else f"{each.stopped:%Y-%m-%d %H:%M}"
        result = "–" if each.result is None else each.result.verdict
        started = f"{each.started:%Y-%m-%d %H:%M}"
        table.add_row(each.name, started, stopped, each.treatment, each.control, each.metric, result)
    print_table(table)
