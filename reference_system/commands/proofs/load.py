"""`workbook load`: send real requests at a set rate, whether or not the service keeps up.

In: the running service on this machine. Out: a table, a run file, a page with plots.
Invariant: latency counts from the moment at which a request was due; the warm-up is left out of every figure.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from reference_system.load_test.plan import LoadPlan
    from reference_system.load_test.report import RunFile
    from reference_system.load_test.samples import GeneratorProgress
    from reference_system.settings import Settings

app = typer.Typer()

WARM_UP_SECONDS = 3.0
# On a log file or in CI the live line would be hundreds of lines.
_QUIET_SECONDS = 5.0
_READY = 200


class EndpointProfile(StrEnum):
    """A profile of `load_tests/profiles.toml`."""

    FRAUD = "fraud"
    RECOMMENDATION = "recommendation"
    BOTH = "both"


@app.command("load")
def load(
    *,
    endpoint: Annotated[EndpointProfile, typer.Option(help="What to ask for.")] = EndpointProfile.BOTH,
    rate: Annotated[float, typer.Option(min=0.1, help="Requests per second, on average.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=1.0, help="How long to measure, after the warm-up.")] = 30.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the arrivals and of what they ask.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the run file.")] = False,
) -> None:
    """Load-test the running service: latency from the due time, errors, rates, cost; a run file with plots."""
    import msgspec

    from reference_system.clock import wall_now
    from reference_system.load_test.plan import LoadPlan, read_profile
    from reference_system.settings import load_settings

    settings = load_settings()
    require_ready(settings)
    profile, shape = read_profile(endpoint)
    plan = LoadPlan(
        url=settings.url("serving"),
        run=wall_now().strftime("%Y%m%dT%H%M%SZ"),
        rate=rate,
        seconds=seconds,
        warm_up_seconds=WARM_UP_SECONDS,
        seed=seed,
        shares=profile.shares,
        shape=shape,
        customers=settings.customers,
        terminals=settings.terminals,
        viewers=settings.viewers,
    )
    command = f"workbook load --endpoint {endpoint} --rate {rate:g} --seconds {seconds:g} --seed {seed}"
    run = run_load(settings, plan, command)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(run)))
    else:
        print_run(run)


def require_ready(settings: Settings) -> None:
    """Raise unless the service answers requests.

    Raises:
        ServiceError: it is not there, or has no model yet.
    """
    from reference_system.errors import ServiceError
    from reference_system.stack.local_http import ask

    try:
        answer = ask(settings.port("serving"), "/readyz")
    except OSError as error:
        raise ServiceError(
            f"nothing to load: no real-time service answers at {settings.url('serving')}", next_command="make up"
        ) from error
    if answer.status != _READY:
        raise ServiceError(
            f"the real-time service is not ready: /readyz answers {answer.status}",
            next_command="workbook logs serving",
        )


def run_load(settings: Settings, plan: LoadPlan, command: str) -> RunFile:
    """One load test from the first request to the last plot."""
    from reference_system.load_test.figures import figures_of, seconds_of
    from reference_system.load_test.generator import run_generator
    from reference_system.load_test.report import RunFile, write_load_run
    from reference_system.paths import StatePaths
    from reference_system.stack.run_facts import run_facts

    facts = run_facts("bentoml", "geventhttpclient", "locust", "numpy", "onnxruntime")
    folder = StatePaths(settings.state_dir).load_runs
    folder.mkdir(parents=True, exist_ok=True)
    measured = run_generator(settings, plan, folder / f"{plan.run}.npz", live_line(plan))
    run = RunFile(
        command=command,
        facts=facts,
        plan=plan,
        settings=settings.model_dump(mode="json"),
        figures=figures_of(
            measured.samples, plan, service=measured.service, generator_cpu_share=measured.generator_cpu_share
        ),
        seconds=seconds_of(measured.samples, plan),
        folder=str(folder),
    )
    write_load_run(run, measured.samples)
    return run


def live_line(plan: LoadPlan) -> Callable[[GeneratorProgress], None]:
    """What shows the progress: one line that renews itself on a terminal, one every few seconds elsewhere."""
    terminal = sys.stderr.isatty()
    shown = -_QUIET_SECONDS

    def show(progress: GeneratorProgress) -> None:
        nonlocal shown
        done = progress.elapsed >= plan.whole_seconds
        text = progress_text(progress, plan)
        if terminal:
            typer.echo(f"\r\x1b[K{text}{chr(10) if done else ''}", err=True, nl=False)
        elif progress.elapsed >= shown + _QUIET_SECONDS:
            shown = progress.elapsed
            typer.echo(text, err=True)

    return show


def progress_text(progress: GeneratorProgress, plan: LoadPlan) -> str:
    """How far the run is."""
    elapsed = min(max(progress.elapsed, 0.0), plan.whole_seconds)
    phase = " (warm-up, not counted)" if progress.elapsed < plan.warm_up_seconds else ""
    return (
        f"{elapsed:3.0f} of {plan.whole_seconds:.0f} s{phase} · answered {progress.answered - progress.failed} · "
        f"errors {progress.failed} · waiting {progress.waiting} · p50 {progress.p50_ms:.0f} ms · "
        f"p99 {progress.p99_ms:.0f} ms"
    )


def print_run(run: RunFile) -> None:
    """The table, the rates, the cost, the doubts, the files."""
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table, reader_console
    from reference_system.load_test.report import HEADINGS, sentences, table_rows

    table = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("endpoint", "errors") else "right", no_wrap=True)
    for row in table_rows(run.figures):
        table.add_row(*row)
    console = reader_console()
    print_table(table, console=console)
    console.print()
    for sentence in sentences(run):
        console.print(sentence, soft_wrap=True)
    for doubt in run.figures.doubts:
        console.print(f"doubt: {doubt}", style="yellow", soft_wrap=True)
    console.print(f"run file {run.path('.json')}, plots {run.path('.html')}", soft_wrap=True)


def main() -> None:
    """Run this verb alone."""
    from reference_system.errors import WorkbookError

    try:
        app()
    except WorkbookError as error:
        typer.echo(error.for_person(), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
