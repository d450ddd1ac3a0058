"""`workbook drift`: has a table changed, and how well would we know?

In: two files; or nothing, for the power of the methods. Out: verdicts for people, for programs, as a page.
Invariant: alerts are an answer, not an error: the exit code is 0 with and without them. Nothing that could be compared
is none: the answer says why, and the exit code is 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated

import typer

from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from reference_system.commands.drift.files import TableFile
    from reference_system.monitoring.table_drift.columns import TableView
    from reference_system.monitoring.table_drift.report import DriftSettings, TableDrift
    from reference_system.proofs.power.drift_power import PowerResult

app = typer.Typer(no_args_is_help=True, help="Drift of any table, and how well it is recognised.")

_MOST_DRAWN = 20_000
_QUIET_SECONDS = 3.0
_PASS = 0.25


@app.command("report")
def report(  # noqa: PLR0913, PLR0917 - the options of the verb
    reference: Annotated[Path, typer.Option("--reference", help="Parquet or CSV: how it was.")],
    current: Annotated[Path, typer.Option("--current", help="Parquet or CSV: how it is.")],
    timestamp: Annotated[
        str | None,
        typer.Option("--timestamp", metavar="COLUMN", help="What orders the rows; else they stand in order."),
    ] = None,
    chunk_size: Annotated[
        int | None, typer.Option("--chunk-size", metavar="N", help="Rows of a chunk.", show_default="one chunk")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a page, drawn by Evidently.")
    ] = None,
    false_alarm_rate: Annotated[
        float, typer.Option("--false-alarm-rate", help="Chunks without drift in which any column may raise an alert.")
    ] = 0.01,
    *,
    as_json: AsJson = False,
) -> None:
    """Compare each column of two tables, chunk by chunk, with thresholds calibrated on the reference."""
    from msgspec import json

    from reference_system.errors import TableRefused
    from reference_system.monitoring.table_drift.report import DriftSettings

    if not 0.0 < false_alarm_rate < 1.0:
        raise TableRefused(f"--false-alarm-rate {false_alarm_rate:g} is no rate: it lies between 0 and 1, like 0.01")
    if out is not None and not out.parent.is_dir():
        raise TableRefused(f"{out} cannot be written: there is no folder {out.parent}")
    settings = DriftSettings(false_alarm_rate=false_alarm_rate, timestamp=timestamp, chunk_size=chunk_size)
    found = _compare(reference, current, settings, out)
    if as_json:
        typer.echo(json.encode(found))
    else:
        _print(found)
        if out is not None:
            typer.echo(f"page {out}")
    if not found.columns:
        reasons = "; ".join(f"{name}: {why}" for name, why in found.left_out.items())
        raise TableRefused(f"nothing could be compared ({reasons})")


@app.command("power")
def power(
    windows: Annotated[int, typer.Option(min=20, help="Windows without drift of each setting.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The power curve, a PNG.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """How often windows without drift raise an alarm, and planted shifts do; 4 minutes."""
    from msgspec import json

    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    begin_proof("draws tables and days and compares them; the live system is not touched")
    from reference_system.proofs.power.drift_power import measure_power

    with progress_bar() as progress:
        found = measure_power(windows=windows, seed=seed, progress=progress)
    if out is not None:
        from reference_system.proofs.power.matplotlib_power import draw_power

        _write(out, draw_power(found, title=f"workbook drift power --windows {windows} --seed {seed}"))
    if as_json:
        typer.echo(json.encode(found))
    else:
        _print_power(found)
        if out is not None:
            typer.echo(f"plot {out}")


def _compare(reference: Path, current: Path, settings: DriftSettings, out: Path | None) -> TableDrift:
    from msgspec import structs

    from reference_system.commands.drift.files import open_table
    from reference_system.commands.terminal.progress import progress_bar
    from reference_system.monitoring.table_drift.comparison import compare_tables

    with progress_bar() as progress:
        show = _patient(progress)
        files = [
            open_table(path, _reading(show, path, offset)) for path, offset in ((reference, 0.0), (current, _PASS))
        ]
        tables = [file.view(str(file.source.path)) for file in files]
        found = compare_tables(tables[0], tables[1], settings)
        found = structs.replace(found, notes=[*found.notes, *_broken(files)])
        if out is not None:
            show(0.9, "drawing the page")
            _write_page(out, tables, found)
    return found


def _patient(progress: Callable[[float, str], None]) -> Callable[[float, str], None]:
    """Progress that says nothing into a file or a pipe about what takes seconds."""
    begun = monotonic()

    def show(share: float, text: str) -> None:
        if sys.stderr.isatty() or monotonic() > begun + _QUIET_SECONDS:
            progress(share, text)

    return show


def _reading(show: Callable[[float, str], None], path: Path, offset: float) -> Callable[[int, float], None]:
    """Two files are read twice in turn: four quarters."""
    return lambda passes, share: show(min(2 * _PASS * passes + offset + _PASS * share, 1.0), f"reading {path}")


def _broken(files: list[TableFile]) -> list[str]:
    return [
        f"{file.source.path}: {len(file.broken):,} lines with another number of cells than the header are left out"
        for file in files
        if file.broken
    ]


def _write_page(out: Path, tables: list[TableView], found: TableDrift) -> None:
    from reference_system.commands.drift.files import sampled_rows
    from reference_system.monitoring.table_drift.evidently_report import render_evidently

    rows = (found.rows["reference"], found.rows["current"])
    frames = [sampled_rows(table, found, count, _MOST_DRAWN) for table, count in zip(tables, rows, strict=True)]
    _write(out, render_evidently(frames[0], frames[1], found).encode())


def _write(out: Path, content: bytes) -> None:
    from reference_system.errors import TableRefused

    try:
        out.write_bytes(content)
    except OSError as error:
        raise TableRefused(f"{out} cannot be written: {error.strerror}") from error


def _print_power(found: PowerResult) -> None:
    from reference_system.commands.drift.tables import power_table
    from reference_system.commands.terminal.tables import print_table, reader_console
    from reference_system.proofs.benchmarks.report import goals_table
    from reference_system.proofs.benchmarks.result import BenchResult

    console = reader_console()
    print_table(power_table(found), console=console)
    console.print()
    print_table(goals_table(BenchResult(name="power", conditions={}, figures=[], goals=found.goals)), console=console)


def _print(found: TableDrift) -> None:
    from reference_system.commands.drift.tables import verdict_table
    from reference_system.commands.terminal.tables import print_table, reader_console
    from reference_system.metrics.meanings import meanings_of

    console = reader_console()
    chunks = max((len(column.chunks) for column in found.columns.values()), default=0)
    size = found.settings.chunk_size
    cut = "one chunk" if size is None else f"{chunks} chunks of {size:,} rows"
    console.print(
        f"{found.rows['current']:,} rows ({cut}) against {found.rows['reference']:,} rows of the reference; "
        f"without drift at most {found.settings.false_alarm_rate:.2%} of the chunks have an alert",
        style="dim",
        markup=False,
    )
    if found.columns:
        print_table(verdict_table(found), console=console)
        for meaning in meanings_of(["psi"]):
            console.print(meaning, style="dim")
    for name, why in found.left_out.items():
        console.print(f"not compared: {name}: {why}", markup=False, style="dim")
    for name, figures in found.figures.items():
        if figures.note:
            console.print(f"{name}: {figures.note}", markup=False)
    for note in found.notes:
        console.print(note, markup=False)
    drifted = found.drifted
    if not found.columns:
        return
    console.print(
        f"drift in {len(drifted)} of {len(found.columns)} columns" if drifted else "no drift",
        style="bold",
        markup=False,
    )
