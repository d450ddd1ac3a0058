"""`workbook drill`: break things on purpose and recount everything afterwards.

In: which fault, how often, a seed. Out: what was done, what became of every record, the digest; exit code 1 if
anything was lost or counted twice, or the ledger differs.
Invariant: a drill has a broker, a state directory and consumers of its own, and leaves nothing behind; the live
system is not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from reference_system.commands.proofs import drill_models, drill_soak
from reference_system.commands.proofs.drill_models import Times
from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from reference_system.proofs.drills.report import DrillReport
    from reference_system.proofs.drills.stage import DrillStage

app = typer.Typer(help="Faults on purpose, each in a system of its own, ended by the ledger.", no_args_is_help=True)
app.add_typer(drill_models.app)
app.add_typer(drill_soak.app)

# The forked consumers would import the program again, each for itself.
_PRELOAD = ("reference_system.cli",)
_SHOWN_PROBLEMS = 30


class Mutant(StrEnum):
    """A consumer that is known to be wrong."""

    NAIVE = "naive"


Events = Annotated[int, typer.Option(min=1, max=10_000_000, help="How many events.")]
TrafficSeed = Annotated[int, typer.Option(min=0, help="Seed of the traffic and of the faults.")]


@app.command("consumer-kill")
def consumer_kill(
    *,
    times: Times = 50,
    seed: TrafficSeed = 1,
    mutant: Annotated[
        Mutant | None, typer.Option(help="Drill a consumer that must fail: it processes, then commits.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Consumers killed with SIGKILL, at named points and at random moments; exit code 1 if anything is wrong."""

    def run(stage: DrillStage) -> DrillReport:
        from reference_system.proofs.drills import consumer_kills as drill_kills

        return drill_kills.consumer_kill(stage, times=times)

    what = f"kills consumers {times:,} times while events flow: about {_minutes(20 + 0.6 * times)}"
    _drill("consumer-kill", what, run, seed=seed, json=json, mutant=mutant is not None)


@app.command("zombie")
def zombie(*, times: Times = 10, seed: TrafficSeed = 1, json: AsJson = False) -> None:
    """A consumer stands still, another takes its tasks, the first one wakes: it must be refused."""

    def run(stage: DrillStage) -> DrillReport:
        from reference_system.proofs.drills import consumer_kills as drill_kills

        return drill_kills.zombie(stage, times=times)

    _drill("zombie", f"wakes {times:,} zombies: about {_minutes(20 + 4 * times)}", run, seed=seed, json=json)


@app.command("broker-kill")
def broker_kill(*, times: Times = 5, seed: TrafficSeed = 1, json: AsJson = False) -> None:
    """The broker killed with SIGKILL and started again, under a producer and two consumers."""

    def run(stage: DrillStage) -> DrillReport:
        from reference_system.proofs.drills import broker as drill_broker

        return drill_broker.broker_kill(stage, times=times)

    what = f"kills the broker of the drill {times:,} times: about {_minutes(20 + 12 * times)}"
    _drill("broker-kill", what, run, seed=seed, json=json)


@app.command("broker-pause")
def broker_pause(*, times: Times = 5, seed: TrafficSeed = 1, json: AsJson = False) -> None:
    """The broker stopped with SIGSTOP for up to six seconds, under a producer and two consumers."""

    def run(stage: DrillStage) -> DrillReport:
        from reference_system.proofs.drills import broker as drill_broker

        return drill_broker.broker_pause(stage, times=times)

    what = f"stops the broker of the drill {times:,} times for some seconds: about {_minutes(20 + 6 * times)}"
    _drill("broker-pause", what, run, seed=seed, json=json)


@app.command("duplicates")
def duplicates(*, events: Events = 5_000, seed: TrafficSeed = 1, json: AsJson = False) -> None:
    """Each event sent once, twice or three times, across kills of the consumer."""

    def run(stage: DrillStage) -> DrillReport:
        from reference_system.proofs.drills import bad_input as drill_input

        return drill_input.duplicates(stage, events=events)

    what = f"sends {events:,} events up to three times: about {_minutes(20 + events / 500)}"
    _drill("duplicates", what, run, seed=seed, json=json)


@app.command("out-of-order")
def out_of_order(*, events: Events = 5_000, seed: TrafficSeed = 1, json: AsJson = False) -> None:
    """Events shuffled within a day and beyond: those beyond are late, those within are not."""

    def run(stage: DrillStage) -> DrillReport:
        from reference_system.proofs.drills import bad_input as drill_input

        return drill_input.out_of_order(stage, events=events)

    what = f"sends {events:,} events in the wrong order: about {_minutes(20 + events / 500)}"
    _drill("out-of-order", what, run, seed=seed, json=json)


@app.command("poison")
def poison(*, events: Events = 1_000, seed: TrafficSeed = 1, json: AsJson = False) -> None:
    """Every kind of malformed message between good events; their bytes must be equal on the dead-letter topics."""

    def run(stage: DrillStage) -> DrillReport:
        from reference_system.proofs.drills import bad_input as drill_input

        return drill_input.poison(stage, events=events)

    what = f"sends everything that is no event among {events:,} that are: about {_minutes(20 + events / 200)}"
    _drill("poison", what, run, seed=seed, json=json)


@app.command("state-loss")
def state_loss(*, times: Times = 4, seed: TrafficSeed = 1, json: AsJson = False) -> None:
    """Task files deleted, some or all: what the lake and the topics give back must have an equal digest."""

    def run(stage: DrillStage) -> DrillReport:
        from reference_system.proofs.drills import state_loss as drill_state

        return drill_state.state_loss(stage, times=times)

    what = f"deletes the stream's state {times:,} times: about {_minutes(20 + 8 * times)}"
    _drill("state-loss", what, run, seed=seed, json=json)


def _drill(  # noqa: PLR0913 - one argument for each thing that drills differ in
    name: str,
    what: str,
    run: Callable[[DrillStage], DrillReport],
    *,
    seed: int,
    json: bool,
    mutant: bool = False,
) -> None:
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof(f"{name}: {what}; the live system is not touched")
    from reference_system.proofs.drills.stage import open_stage

    with (
        progress_bar() as progress,
        open_stage(settings, name, seed=seed, progress=progress, mutant=mutant, preload=_PRELOAD) as stage,
    ):
        report = run(stage)
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report)))
    else:
        _print(report)
    if not report.passed:
        raise typer.Exit(1)


def _print(report: DrillReport) -> None:
    from rich.table import Table

    from reference_system.commands.terminal.tables import print_table, reader_console

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("what")
    table.add_column("how often", justify="right")
    for fault, times in report.faults.items():
        table.add_row(fault, f"{times:,}")
    table.add_section()
    for name, count in msgspec.structs.asdict(report.counts).items():
        table.add_row(name.replace("_", "-"), f"{count:,}")
    console = reader_console()
    print_table(table, console=console)
    if report.digest:
        console.print(f"digest {report.digest}")
    for problem in report.problems[:_SHOWN_PROBLEMS]:
        console.print(problem, style="red", soft_wrap=True, markup=False)
    verdict = "passed: nothing lost, nothing counted twice" if report.passed else "FAILED"
    console.print(f"{report.drill} with seed {report.seed} {verdict} ({report.seconds:.0f} s)")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"  # noqa: PLR2004 - a minute and a half
