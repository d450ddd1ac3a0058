"""`workbook bench`: how fast, measured beside a baseline in the same call.

In: which benchmark. Out: a table, and a run file with machine, commit and command under `<state_dir>/bench/`.
Invariant: a figure never stands alone; contenders are measured in turn, and the spread of their laps is shown. What
misses its goal is said, and is no error: machines differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from reference_system.proofs.benchmarks.report import BenchRun
    from reference_system.proofs.benchmarks.result import BenchResult
    from reference_system.settings import Settings

app = typer.Typer(help="How fast: each measured beside a baseline, in turn, in the same call.", no_args_is_help=True)


@app.command("ingest")
def ingest(
    *,
    events: Annotated[int, typer.Option(min=1_000, help="Events of each lap.")] = 60_000,
    laps: Annotated[int, typer.Option(min=1, max=50, help="How often everything is measured.")] = 3,
    json: AsJson = False,
) -> None:
    """Ingestion with everything on, against a bare loop and against one Feast push an event; about 3 minutes."""
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof(
        f"reads {laps} × {events:,} payments from a broker of its own; the live system is not touched"
    )
    from reference_system.proofs.benchmarks.ingest import measure_ingest

    with progress_bar() as progress:
        result = measure_ingest(settings, events=events, laps=laps, progress=progress)
    _finish(settings, f"workbook bench ingest --events {events} --laps {laps}", result, json=json)


@app.command("features")
def features(
    *,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="An imported dataset; by default payments are generated.")
    ] = None,
    laps: Annotated[int, typer.Option(min=1, max=50, help="How often everything is measured.")] = 3,
    json: AsJson = False,
) -> None:
    """The fifteen inputs of 1.17 million payments, at three sizes, against pandas; about 5 minutes."""
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof("builds features in processes of their own; the live system is not touched")
    from reference_system.proofs.benchmarks.features import measure_features

    with progress_bar() as progress:
        result = measure_features(settings, dataset=dataset, laps=laps, progress=progress)
    named = "" if dataset is None else f" --dataset {dataset}"
    _finish(settings, f"workbook bench features{named} --laps {laps}", result, json=json)


@app.command("online-read")
def online_read(
    *,
    laps: Annotated[int, typer.Option(min=1, max=200, help="How often everything is measured.")] = 15,
    json: AsJson = False,
) -> None:
    """The fifteen inputs of one transaction, against Feast's SDK and against SELECTs of the same bytes; 1 minute."""
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof("reads from online stores of its own; the live system is not touched")
    from reference_system.proofs.benchmarks.online_read import measure_online_read

    with progress_bar() as progress:
        result = measure_online_read(settings, laps=laps, progress=progress)
    _finish(settings, f"workbook bench online-read --laps {laps}", result, json=json)


@app.command("training-set")
def training_set(
    *,
    laps: Annotated[int, typer.Option(min=1, max=50, help="How often everything is measured.")] = 5,
    json: AsJson = False,
) -> None:
    """The point-in-time join through Feast, against Feast's own store and a join written by hand; 2 minutes."""
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof(
        "joins 67,240 rows with 1,169,723 feature rows of two views; the live system is not touched"
    )
    from reference_system.proofs.benchmarks.training_set import measure_training_set

    with progress_bar() as progress:
        result = measure_training_set(settings, laps=laps, progress=progress)
    _finish(settings, f"workbook bench training-set --laps {laps}", result, json=json)


@app.command("drift")
def drift(
    *,
    rows: Annotated[int, typer.Option(min=1_000, help="Rows of each of the two tables.")] = 100_000,
    columns: Annotated[int, typer.Option(min=2, help="Columns.")] = 30,
    laps: Annotated[int, typer.Option(min=1, max=50, help="How often everything is measured.")] = 3,
    json: AsJson = False,
) -> None:
    """A drift report against Evidently's, with equal statistics; 1 minute."""
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof(f"compares two tables of {rows:,} × {columns} in memory; the live system is not touched")
    from reference_system.proofs.benchmarks.drift import measure_drift

    with progress_bar() as progress:
        result = measure_drift(rows=rows, columns=columns, laps=laps, progress=progress)
    _finish(settings, f"workbook bench drift --rows {rows} --columns {columns} --laps {laps}", result, json=json)


@app.command("shadow")
def shadow(
    *,
    laps: Annotated[int, typer.Option(min=1, max=50, help="How often everything is measured.")] = 5,
    json: AsJson = False,
) -> None:
    """Answers with a challenger in the shadow, against answers without one; 2 minutes."""
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof(
        "answers requests in this process with the champions' bundles; the live system is not touched"
    )
    from reference_system.proofs.benchmarks.shadow import measure_shadow

    with progress_bar() as progress:
        result = measure_shadow(settings, laps=laps, progress=progress)
    _finish(settings, f"workbook bench shadow --laps {laps}", result, json=json)


@app.command("retrieval")
def retrieval(
    *,
    laps: Annotated[int, typer.Option(min=1, max=200, help="How often everything is measured.")] = 15,
    json: AsJson = False,
) -> None:
    """The nearest of 10,000 videos, exactly, against sorting everything and against plain Python; half a minute."""
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof("retrieves from factors of its own; the live system is not touched")
    from reference_system.proofs.benchmarks.retrieval import measure_retrieval

    with progress_bar() as progress:
        result = measure_retrieval(laps=laps, progress=progress)
    _finish(settings, f"workbook bench retrieval --laps {laps}", result, json=json)


def _finish(settings: Settings, command: str, result: BenchResult, *, json: bool) -> None:
    from reference_system.proofs.benchmarks.report import write_bench_run

    run, path = write_bench_run(settings, command, result)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(run)))
    else:
        _print(run)
        typer.echo(f"run file {path}")


def _print(run: BenchRun) -> None:
    from reference_system.commands.terminal.tables import print_table, reader_console
    from reference_system.proofs.benchmarks.report import figures_table, goals_table

    console = reader_console()
    for text in run.result.conditions.values():
        console.print(text, style="dim")
    print_table(figures_table(run.result), console=console)
    console.print()
    print_table(goals_table(run.result), console=console)
