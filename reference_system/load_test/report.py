"""The run file of a load test, its plots and its page.

In: a finished run and its samples. Out: `<run>.json`, `<run>.png`, `<run>.html` next to the samples (`<run>.npz`).
Invariant: the page needs no network and no other file; every file is written atomically.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from reference_system.load_test.figures import EVERYTHING, Figures, Latencies, Second
from reference_system.load_test.matplotlib_plots import draw_load
from reference_system.load_test.plan import LoadPlan
from reference_system.replaced_files import replace_file
from reference_system.stack.run_facts import RunFacts

if TYPE_CHECKING:
    from reference_system.load_test.samples import Samples

HEADINGS = ("endpoint", "requests", "p50 ms", "p95 ms", "p99 ms", "max ms", "degraded", "errors")
# A percentile that falls among the failed requests has no value.
_NO_VALUE = "failed"


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """The complete record of one load test."""

    command: str
    facts: RunFacts
    plan: LoadPlan
    settings: dict[str, Any]  # for the record: nothing reads them back
    figures: Figures
    seconds: list[Second]
    folder: str

    def path(self, suffix: str) -> Path:
        """One of the run's files."""
        return Path(self.folder) / f"{self.plan.run}{suffix}"


def write_load_run(run: RunFile, samples: Samples) -> None:
    """Write the run file, the plots and the page."""
    plots = draw_load(samples, run.plan, run.figures, run.seconds, title=_title(run))
    replace_file(run.path(".png"), plots)
    replace_file(run.path(".html"), _page(run, plots).encode())
    replace_file(run.path(".json"), msgspec.json.format(msgspec.json.encode(run), indent=2))


def table_rows(figures: Figures) -> list[list[str]]:
    """The rows of the table; with one endpoint the sum is omitted."""
    single = len(figures.endpoints) == 2  # noqa: PLR2004 - one endpoint and the sum
    return [cells(name, row) for name, row in figures.endpoints.items() if not (single and name == EVERYTHING)]


def cells(name: str, row: Latencies) -> list[str]:
    """One row of the table."""
    times = [_time(value, row) for value in (row.p50_ms, row.p95_ms, row.p99_ms, row.max_ms)]
    errors = ", ".join(f"{count} × {kind}" for kind, count in row.errors.items())
    return [name, f"{row.requests:,}", *times, str(row.degraded), errors or "none"]


def sentences(run: RunFile) -> list[str]:
    """Facts that are not in the table."""
    rates, lag, service = run.figures.rates, run.figures.lag, run.figures.service
    share = run.figures.generator_cpu_share
    rate = (
        f"rate: {rates.requested:g} requests/s requested, {rates.arrived:.1f} arrived (a Poisson process), "
        f"{rates.achieved:.1f} answered successfully; the first {run.plan.warm_up_seconds:g} s are left out"
    )
    generator = (
        f"generator: late by {_number(lag.p50_ms)} ms (p50), {_number(lag.p99_ms)} ms (p99), "
        f"{_number(lag.max_ms)} ms (max), counted in the latencies"
    )
    lines = [rate, generator if share is None else f"{generator}; it used {share:.0%} of a core"]
    if service is not None:
        lines.append(
            f"service: {service.cpu_ms_per_request:.2f} ms of CPU a request, {service.cpu_share:.0%} of a core for "
            f"{service.requests_per_second:.0f} requests/s, including those of the simulated world"
        )
    return lines


def _time(value: float | None, row: Latencies) -> str:
    if value is not None:
        return _number(value)
    return _NO_VALUE if row.errors else "–"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _title(run: RunFile) -> str:
    """A title that identifies the run when a plot is shown alone."""
    commit = run.facts.commit
    code = "no commit" if commit is None else f"commit {commit.id[:8]}{' and changes' if commit.dirty else ''}"
    machine = run.facts.machine
    return f"{run.command}\n{machine.cpu or machine.system}, {machine.cores} cores, {code}, {run.plan.run}"


def _page(run: RunFile, plots: bytes) -> str:
    heads = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table_rows(run.figures)
    )
    facts = "".join(f"<li>{escape(line)}</li>" for line in sentences(run))
    doubts = "".join(f'<p class="doubt">{escape(doubt)}</p>' for doubt in run.figures.doubts)
    image = base64.b64encode(plots).decode()
    record = escape(msgspec.json.format(msgspec.json.encode(run.facts), indent=2).decode())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Load test {escape(run.plan.run)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1d2530 }}
table {{ border-collapse: collapse }}
th, td {{ padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd }}
th:first-child, td:first-child, th:last-child, td:last-child {{ text-align: left }}
img {{ width: 100% }} .doubt {{ background: #fff4d6; border-left: 4px solid #c98a00; padding: .4rem .8rem }}
</style>
<h1>Load test {escape(run.plan.run)}</h1>
<p><code>{escape(run.command)}</code></p>
{doubts}
<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>
<ul>{facts}</ul>
<p>Latency counts from the time at which a request was due, whether or not the service kept up. A failed request counts
as slower than every answer; the slowest answer is the maximum.</p>
<img alt="Latency over time, distribution of latency, rates over time" src="data:image/png;base64,{image}">
<details><summary>Machine, commit, versions</summary><pre>{record}</pre></details>
</html>
"""
