"""The page of a drift report: Evidently draws it, the verdicts are ours.

In: rows of both tables, and what was found. Out: one HTML text.
Invariant: Evidently's verdicts are the report's own, because the test that it is given looks them up; the page loads
nothing from anywhere, and tells the browser so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import StatTest, register_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset

from reference_system.monitoring.table_drift.report import TableDrift

_NAME = "workbook"
_NOTHING_FOREIGN = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline' "
    "'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:\">"
)
# Where maps of the world would be fetched from, which no drift report draws; and the address behind a logo.
_FOREIGN = ("https://cdn.plot.ly/", "https://plotly.com/")
# More than Evidently ever draws of one column.
_BINS, _EPSILON = 1_000, float(np.finfo(np.float64).eps)
_STYLE = """<style>
.verdicts { font: 14px system-ui, sans-serif; max-width: 1100px; margin: 24px auto; padding: 0 16px; color: #222 }
.verdicts table { border-collapse: collapse; width: 100% }
.verdicts th, .verdicts td { text-align: left; padding: 4px 10px; border-bottom: 1px solid #ddd }
.verdicts td.figure { text-align: right; font-variant-numeric: tabular-nums }
.verdicts tr.alert td { background: #fdecea }
</style>"""


def render_evidently(before: pd.DataFrame, now: pd.DataFrame, found: TableDrift) -> str:
    """The page.

    Args:
        before: rows of the reference, the compared columns alone.
        now: rows of the current table, the same columns.
        found: the verdicts.
    """
    before, now = (frame.replace([np.inf, -np.inf], np.nan) for frame in (before, now))
    left_out = {name: why for name in before.columns if (why := _why_not_drawn(before[name], now[name]))}
    drawn = [name for name in before.columns if name not in left_out]
    page = _evidently(before[drawn], now[drawn], found) if drawn else _empty_page()
    head, _, rest = page.partition("<head>")
    page = f"{head}<head>{_NOTHING_FOREIGN}{_STYLE}{rest}"
    for address in _FOREIGN:
        page = page.replace(address, "")
    head, _, rest = page.partition("<body>")
    return f"{head}<body>{_verdicts(found, len(before), len(now), left_out)}{rest}"


def run_preset(before: pd.DataFrame, now: pd.DataFrame, categories: Sequence[str], method: str) -> dict[str, float]:
    """Evidently's own drift report with one of its methods: the value of each column."""
    snapshot = Report([DataDriftPreset(method=method)]).run(_dataset(now, categories), _dataset(before, categories))
    return {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if "column" in metric["config"]
    }


def _why_not_drawn(before: pd.Series, now: pd.Series) -> str | None:
    """What keeps a histogram of a column from being drawn, if anything does."""
    present = [part.dropna() for part in (before, now)]
    if any(part.empty for part in present):
        return "one of the tables has no value that can be drawn"
    if not pd.api.types.is_numeric_dtype(before):
        return None
    for part in (*present, pd.concat(present)):
        low, high = float(part.min()), float(part.max())
        width = high - low or 1.0
        if not np.isfinite(width) or width < _BINS * _EPSILON * max(abs(low), abs(high)):
            return f"its numbers, {low:.4g} to {high:.4g}, lie too far apart or too close together for their size"
    return None


def _evidently(before: pd.DataFrame, now: pd.DataFrame, found: TableDrift) -> str:
    largest = {name: _largest(found, name) for name in before.columns}

    def look_up(reference: pd.Series, *_: object) -> tuple[float, bool]:
        name = str(reference.name)
        return largest[name], found.columns[name].first_alert is not None

    test = StatTest(
        name=_NAME,
        display_name="largest statistic of a chunk (see the table above)",
        allowed_feature_types=[ColumnType.Numerical, ColumnType.Categorical],
    )
    register_stattest(test, look_up)
    categories = [name for name in before.columns if found.columns[name].kind == "category"]
    preset = DataDriftPreset(
        columns=list(before.columns),
        method=_NAME,
        per_column_threshold={name: found.columns[name].threshold for name in before.columns},
    )
    # It works out means and correlations of whatever there is, also where they are no numbers.
    with np.errstate(all="ignore"):
        snapshot = Report([preset]).run(_dataset(now, categories), _dataset(before, categories))
    page: str = snapshot.get_html_str(as_iframe=False)
    return page


def _dataset(frame: pd.DataFrame, categories: Sequence[str]) -> Dataset:
    numbers = [name for name in frame.columns if name not in categories]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=list(categories))
    return Dataset.from_pandas(frame, data_definition=definition)


def _largest(found: TableDrift, name: str) -> float:
    return max((chunk.statistic or 0.0 for chunk in found.columns[name].chunks), default=0.0)


def _empty_page() -> str:
    return "<!DOCTYPE html><html lang='en'><head><meta charset='UTF-8'></head><body></body></html>"


def _verdicts(found: TableDrift, before: int, now: int, not_drawn: Mapping[str, str]) -> str:
    """Our own table, above what Evidently draws."""
    rows = "".join(_verdict(found, name) for name in found.columns)
    drifted = found.drifted
    verdict = f"Drift in {len(drifted)} of {len(found.columns)} columns" if drifted else "No drift"
    if not found.columns:
        verdict = "Nothing could be compared"
    notes = "".join(f"<p>{escape(note)}</p>" for note in found.notes)
    return f"""<div class="verdicts"><h1>{verdict}</h1>
<p>{found.rows["current"]:,} rows against {found.rows["reference"]:,} rows of the reference. Without drift at most
{found.settings.false_alarm_rate:.2%} of the chunks have an alert, over all columns together.</p>{notes}
<table><tr><th>column</th><th>kind</th><th>method</th><th>largest statistic</th><th>threshold</th><th>chunks</th>
<th>alerts</th><th>first alert</th></tr>{rows}</table>
{_listed("Not compared", found.left_out)}
{_listed("Compared, but not drawn", not_drawn)}
<p>Below, Evidently draws {before:,} rows of the reference and {now:,} current rows, evenly spaced. Its verdicts
are those of the table; its histograms are of all chunks together, and leave missing numbers out.</p></div>"""


def _listed(what: str, columns: Mapping[str, str]) -> str:
    lines = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in columns.items())
    return f"<p>{what}:</p><ul>{lines}</ul>" if lines else ""


def _verdict(found: TableDrift, name: str) -> str:
    column = found.columns[name]
    alerts = sum(chunk.alert for chunk in column.chunks)
    words = (escape(name), column.kind, column.method)
    figures = (
        f"{_largest(found, name):.4g}",
        f"{column.threshold:.4g}",
        str(len(column.chunks)),
        str(alerts),
        str(column.first_alert or "–"),
    )
    body = "".join(f"<td>{word}</td>" for word in words)
    body += "".join(f'<td class="figure">{figure}</td>' for figure in figures)
    return f'<tr class="{"alert" if alerts else ""}">{body}</tr>'
