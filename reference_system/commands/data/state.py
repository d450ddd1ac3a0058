"""`workbook state`: what the stream has consumed and what that amounts to.

In: the task files, the topics. Out: positions, totals, a digest; the same computed again from the topics.
Invariant: a rebuild replaces nothing unless it says the same, or is told to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from reference_system.commands.terminal.options import AsJson

if TYPE_CHECKING:
    from reference_system.settings import Settings


class TaskFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One task, in figures."""

    task: int
    epoch: int
    records: int
    outcomes: dict[str, int]
    states: int
    state_bytes: int


app = typer.Typer(help="The stream's state: show it, prove it, build it anew.", no_args_is_help=True)


@app.command("show")
def show(*, as_json: AsJson = False) -> None:
    """Each task's epoch, events and entities, and the digest over all."""
    from reference_system.features.stream.snapshot import digest, snapshots
    from reference_system.paths import StatePaths
    from reference_system.settings import load_settings

    tasks = snapshots(StatePaths(load_settings().state_dir).stream_tasks)
    found = [
        TaskFigures(
            task=task.task,
            epoch=task.epoch,
            records=sum(task.positions.values()),
            outcomes=_outcomes(task.totals),
            states=len(task.states),
            state_bytes=sum(len(state) for *_, state in task.states),
        )
        for task in tasks
    ]
    if as_json:
        typer.echo(msgspec.json.encode({"tasks": found, "digest": digest(tasks)}).decode())
        return
    for each in found:
        outcomes = ", ".join(f"{n:,} {name.replace('_', '-')}" for name, n in each.outcomes.items()) or "none yet"
        typer.echo(
            f"task {each.task}: epoch {each.epoch}, {each.records:,} records ({outcomes}), "
            f"{each.states:,} states, {each.state_bytes / 1e6:.1f} MB"
        )
    typer.echo(f"digest {digest(tasks)}")


@app.command("rebuild")
def rebuild(
    *,
    check: Annotated[bool, typer.Option("--check", help="Only compare; the running ingestion goes on.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the state even if the digests differ.")] = False,
    as_json: AsJson = False,
) -> None:
    """Consume every record of the topics again, compare digests, and put the new state in place of the old."""
    from reference_system.commands.terminal.progress import begin_proof, progress_bar

    settings = begin_proof("consuming every topic again from its beginning: about half a minute for a million records")
    from reference_system.errors import StateError
    from reference_system.flows.ingestion.state_replay import replay_topics

    with nullcontext() if check else _ingestion_stopped(settings), progress_bar() as progress:
        found = replay_topics(settings, progress, replace=lambda done: not check and (force or done.is_equal))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        typer.echo(f"{found.records:,} records consumed again")
        typer.echo(f"before  {found.before or 'there was no state'}")
        typer.echo(f"after   {found.after}  {'equal' if found.is_equal else 'different'}")
    if not found.is_equal:
        replaced = "it was replaced" if force and not check else "it was left alone"
        raise StateError(f"the state was not what the topics say; {replaced}", next_command="workbook verify")


@contextmanager
def _ingestion_stopped(settings: Settings) -> Iterator[None]:
    """Where the system is up, ingestion stands still meanwhile."""
    from reference_system.stack.services import service_named
    from reference_system.stack.supervisor.client import Supervisor
    from reference_system.stack.supervisor.daemon import stopped_service

    supervisor = Supervisor(settings)
    if not supervisor.is_alive():
        yield
        return
    with stopped_service(settings, supervisor, service_named(settings, "ingestion")):
        yield


def _outcomes(totals: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Totals over all topics."""
    found: dict[str, int] = {}
    for (_, outcome), count in totals.items():
        found[outcome] = found.get(outcome, 0) + count
    return found
